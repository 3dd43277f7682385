import sqlite3
import subprocess
import sys

import pytest
from sqlalchemy.schema import CreateIndex, CreateTable

from doorward.ccs.engines import tables
from doorward.ccs.engines.migrations import head, migrate_sqlite, script
from doorward.ccs.engines.opening import sqlite_path
from doorward.ccs.engines.sqlite import FLAVOUR as SQLITE
from doorward.ccs.ports import StoreTooNew
from doorward.ccs.rules.facts import Thing
from tests.engines.store.rigs import open_rig, raw

UPGRADE = "import sys; from doorward.ccs.engines.opening import upgrade; upgrade(sys.argv[1])"


def start_upgrade(url: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", UPGRADE, url], stderr=subprocess.PIPE)


def test_four_that_start_at_once_migrate_once_and_all_find_it_done(url: str) -> None:
    together = [start_upgrade(url) for _ in range(4)]
    ended = [(process.wait(60), process.communicate()[1].decode()) for process in together]
    assert ended == [(0, "")] * 4


async def test_an_old_database_is_brought_up_to_date_and_a_current_one_left_alone(url: str) -> None:
    for _ in range(2):
        rig = await open_rig(url)
        assert await rig.store.read(lambda books: books.known(Thing.PARTY)) == []
        _, held = await rig.store.write(lambda books: books.take_leases("w", range(256), 1, 2))
        assert len(held) == 256
        await rig.close()


async def test_a_database_of_a_newer_version_is_refused_by_name(url: str) -> None:
    rig = await open_rig(url)
    await rig.close()
    await raw(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreTooNew, match=f"9999.*{head()}"):
        await open_rig(url)


async def test_the_history_ends_at_the_columns_that_the_code_knows(url: str) -> None:
    await (await open_rig(url)).close()
    for table in tables.metadata.sorted_tables:
        cursor = await raw(url, f'SELECT * FROM (SELECT 1) one LEFT JOIN "{table.name}" ON false')
        assert len(cursor[0]) == 1 + len(table.columns), table.name


def test_the_history_ends_at_the_very_tables_and_indexes_that_the_code_knows() -> None:
    """Word for word on one database, wherever a column was added; the other gets the same history."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate_sqlite(connection)
    made = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT IN ('alembic_version', 'sqlite_sequence')"
    )
    known: list[CreateTable | CreateIndex] = []
    for table in tables.metadata.sorted_tables:
        known += [CreateTable(table), *map(CreateIndex, table.indexes)]
    assert {_parts(row[0]) for row in made} == {
        _parts(str(each.compile(dialect=SQLITE.dialect))) for each in known
    }


def _parts(statement: str) -> tuple[str, ...]:
    """The statement's head and its columns and constraints: SQLite puts a column that was added later last."""
    words = " ".join(statement.split())
    if not words.startswith("CREATE TABLE"):
        return (words,)
    head, _, inside = words.partition("(")
    return (head, *sorted(part.strip() for part in inside.rstrip().removesuffix(")").split(", ")))


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_current_database_needs_nothing_and_an_unknown_revision_is_an_error(dialect: str) -> None:
    assert script(dialect, head()) == []
    assert script(dialect, None)
    with pytest.raises(StoreTooNew, match="from-the-future"):
        script(dialect, "from-the-future")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///ccs.db", "ccs.db"),
        ("sqlite:////var/lib/a%20b.db", "/var/lib/a b.db"),
        ("sqlite://", ":memory:"),
        ("sqlite:///:memory:", ":memory:"),
        ("postgresql://u@h/d", None),
        ("postgres://h/d", None),
    ],
)
def test_a_url_names_a_file_memory_or_a_server(url: str, path: str | None) -> None:
    assert sqlite_path(url) == path


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://host/ccs.db", "ccs.db", ""])
def test_other_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match="a store is sqlite:///path or postgresql"):
        sqlite_path(url)
