"""Which store a URL names, and how it is brought up to date."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from asyncpg import PostgresError

from doorward.ccs.engines.migrations import head, migrate_postgresql, migrate_sqlite
from doorward.ccs.engines.postgresql import (
    READERS,
    WRITERS,
    PostgresqlExecutor,
    connected,
    open_postgresql,
)
from doorward.ccs.engines.sqlite import SqliteExecutor, SqlitePen, SqliteStore
from doorward.ccs.engines.store.auditing import Auditing
from doorward.ccs.ports import Store, StoreUnavailable
from doorward.kit.clock import Clock
from doorward.kit.sqlite_thread import BUSY_WAIT_MS_MAX, MEMORY

POSTGRESQL = ("postgresql", "postgres")


def sqlite_path(url: str) -> str | None:
    """The path of a ``sqlite:`` URL, ``None`` for PostgreSQL's; raise ``ValueError`` for any other.

    ``sqlite:///ccs.db`` is relative, ``sqlite:////var/lib/ccs.db`` absolute, ``sqlite://`` in memory."""
    parts = urlsplit(url)
    if parts.scheme in POSTGRESQL:
        return None
    if parts.scheme != "sqlite" or parts.netloc:
        raise ValueError(f"a store is sqlite:///path or postgresql://…, not {parts.scheme}://{parts.netloc}")
    path = unquote(parts.path.removeprefix("/"))
    return path if path not in ("", MEMORY) else MEMORY


async def open_store(
    url: str,
    *,
    clock: Clock,
    synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
    inline: bool = False,
    writers: int = WRITERS,
    readers: int = READERS,
) -> Store:
    """Open the store of ``url``, brought up to date. ``synchronous`` and ``inline`` are SQLite's (see
    :class:`~doorward.kit.sqlite_thread.SqliteThread`), ``writers`` and ``readers`` PostgreSQL's connections.

    Raises ``ValueError`` for a URL of another kind, :class:`~doorward.ccs.ports.StoreTooNew`, and the
    driver's error when the database cannot be reached."""
    path = sqlite_path(url)
    if path is None:
        return await open_postgresql(url, clock=clock, writers=writers, readers=readers)
    return SqliteStore(path, clock=clock, synchronous=synchronous, inline=inline)


def upgrade(url: str) -> None:
    """Bring the database of ``url`` up to date, alone or beside others that do the same. For programs
    without an event loop; raises as :func:`open_store` does."""
    path = sqlite_path(url)
    if path is None:
        asyncio.run(_upgrade_postgresql(url))
        return
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_WAIT_MS_MAX / 1000)
    with closing(connection):
        migrate_sqlite(connection)


async def _upgrade_postgresql(dsn: str) -> None:
    async with connected(dsn) as connection:
        await migrate_postgresql(connection)


@asynccontextmanager
async def auditing(url: str) -> AsyncIterator[Auditing]:
    """The record of a database, to be read beside a system that runs or of one that is stopped. Nothing is
    changed, every read is a transaction of its own.

    Raises ``ValueError`` for a URL of another kind or a database of another version, :class:`StoreUnavailable`,
    ``OSError`` or ``sqlite3.Error`` for one that cannot be read."""
    path = sqlite_path(url)
    if path is None:
        try:
            async with connected(url) as server:
                await server.execute("SET default_transaction_read_only = on")
                _require_current(await server.fetchval("SELECT version_num FROM alembic_version"))
                yield Auditing(PostgresqlExecutor(server), 0)
        except (PostgresError, TimeoutError) as error:
            raise StoreUnavailable(str(error) or type(error).__name__) from error
        return
    with closing(_connect_to_read(path)) as file:
        _require_current(file.execute("SELECT version_num FROM alembic_version").fetchone()[0])
        yield Auditing(SqliteExecutor(file, SqlitePen()), 0)


def _connect_to_read(path: str) -> sqlite3.Connection:
    where = f"{Path(path).absolute().as_uri()}?mode=ro"
    return sqlite3.connect(where, uri=True, isolation_level=None, timeout=BUSY_WAIT_MS_MAX / 1000)


def _require_current(revision: str) -> None:
    if revision != head():
        raise ValueError(f"the database is at revision {revision}, this version of Doorward at {head()}")
