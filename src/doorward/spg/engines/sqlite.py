"""The gateway's store on SQLite: a file of its own, one writer, what waits together commits together."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from doorward.kit.sqlite_thread import MEMORY, SqliteThread
from doorward.spg.engines.store import SqliteBooks, migrate
from doorward.spg.ports import Books

R = TypeVar("R")

CACHE_KIB = 4_096
CACHE_KIB_IN_MEMORY = 64
PAGE_BYTES_IN_MEMORY = 1_024


class SqliteStore:
    """A :class:`~doorward.spg.ports.Store` in one file, or in memory for simulations.

    ``inline`` runs without a thread: for many gateways in one process, and for simulation.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        inline: bool = False,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
    ) -> None:
        small = str(path) == MEMORY
        self._thread = SqliteThread(
            path,
            schema=_small if small else migrate,
            synchronous=synchronous,
            inline=inline,
            cache_kib=CACHE_KIB_IN_MEMORY if small else CACHE_KIB,
        )

    async def write(self, step: Callable[[Books], R]) -> R:
        """Run a step and commit durably before returning."""
        return await self._thread.write(lambda connection: step(SqliteBooks(connection)))

    async def read(self, step: Callable[[Books], R]) -> R:
        """Run a step that only reads."""
        return await self._thread.read(lambda connection: step(SqliteBooks(connection)))

    async def close(self) -> None:
        """Finish what was asked for and close."""
        await self._thread.close()


def _small(connection: sqlite3.Connection) -> None:
    """A thousand stores in one process: small pages, for most tables hold a few rows."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES_IN_MEMORY}")
    migrate(connection)
