"""The history of the CCS's tables, one for both databases, and how a database is brought up to date.

Alembic orders the revisions and renders them as SQL; the plain drivers run it, in one transaction under
a lock, so that of several workers that start at once one migrates and the others find it done. Every
revision is therefore SQL only: it can be read beforehand (:func:`script`), and never looks at data.
"""

import sqlite3
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from doorward.ccs.ports import StoreTooNew

LOCK = 0x446F6F72
"""Advisory lock of PostgreSQL under which databases are migrated."""


class _Statements(list[str]):
    """What Alembic would run, as a file that it writes into: one statement or remark a write."""

    def write(self, text: str) -> None:
        """Keep a statement."""
        if not text.lstrip().startswith("--"):
            self.append(text)

    def flush(self) -> None:
        """Nothing waits."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "doorward.ccs.engines:migrations")
    return config


def head() -> str:
    """The newest revision."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    assert newest is not None
    return newest


def script(dialect: str, current: str | None) -> list[str]:
    """The statements from revision ``current`` (``None``: an empty database) to the newest.

    ``dialect`` is ``sqlite`` or ``postgresql``. Raises :class:`StoreTooNew` for a revision that this
    version does not know."""
    known = {revision.revision for revision in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise StoreTooNew(
            f"the database is at revision {current}, which this version of Doorward does not know "
            f"(it knows {head()}); use the newer version"
        )
    if current == head():
        return []
    config = _config()
    statements = _Statements()
    config.attributes["dialect"] = dialect
    config.attributes["statements"] = statements
    command.upgrade(config, f"{current or 'base'}:head", sql=True)
    return list(statements)


def migrate_sqlite(connection: sqlite3.Connection) -> None:
    """Bring the database of a connection in autocommit up to date."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        named = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if named else None
        for statement in script("sqlite", row[0] if row else None):
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


async def migrate_postgresql(connection: Any) -> None:
    """Bring the database of an asyncpg connection up to date."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        named = await connection.fetchval("SELECT to_regclass('alembic_version')")
        current = await connection.fetchval("SELECT version_num FROM alembic_version") if named else None
        for statement in script("postgresql", current):
            await connection.execute(statement)
