"""Words that homes are found by, and what was done for a third party by its people."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEPT = {
    "customer": ("id", "name", "contact"),
    "account": ("id", "name"),
    "service_point": ("id", "address"),
    "device": ("id", "serial"),
}
"""Kind of thing → the columns whose words it is found by."""
EDGES = "\"''.,;:()[]<>#"
"""What words are stripped of; a quote is written twice, as SQL wants it."""


def upgrade() -> None:
    """Make the tables, and fill in the words of what is there."""
    op.create_table(
        "search_word",
        sa.Column("word", ID, nullable=False),
        sa.Column("kind", ID, nullable=False),
        sa.Column("thing", ID, nullable=False),
        sa.PrimaryKeyConstraint("kind", "word", "thing", name="pk_search_word"),
    )
    op.create_index("ix_search_word_thing", "search_word", ["thing", "kind"], unique=False)
    op.create_table(
        "party_note",
        sa.Column("id", ID, nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("words", sa.Text(), server_default="", nullable=False),
        sa.Column("by", ID, server_default="", nullable=False),
        sa.Column("by_name", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_party_note"),
    )
    op.create_index("ix_party_note_party", "party_note", ["party", "id"], unique=False)
    for kind, columns in KEPT.items():
        _fill(kind, columns)


def _fill(kind: str, columns: tuple[str, ...]) -> None:
    """Keep the words between spaces and commas; accents are folded when the thing is next written."""
    postgresql = op.get_context().dialect.name == "postgresql"
    find, trim = ("strpos", "btrim") if postgresql else ("instr", "trim")
    in_bytes = ' COLLATE "C"' if postgresql else ""
    text = " || ' ' || ".join(columns)
    op.execute(
        "INSERT INTO search_word (word, kind, thing) "  # noqa: S608 (nothing in it comes from outside)
        "WITH RECURSIVE split (thing, word, rest) AS ("
        f"SELECT id, ''{in_bytes}, (replace(lower({text}), ',', ' ') || ' '){in_bytes} FROM {kind} "
        f"UNION ALL SELECT thing, substr(rest, 1, {find}(rest, ' ') - 1), substr(rest, {find}(rest, ' ') + 1) "
        "FROM split WHERE rest <> '') "
        f"SELECT DISTINCT substr({trim}(word, '{EDGES}'), 1, 80), '{kind}', thing FROM split "
        f"WHERE {trim}(word, '{EDGES}') <> ''"
    )
