"""Real servers for tests: one PostgreSQL cluster a session with a fresh database a test, and brokers.

With ``DOORWARD_TEST_ENGINES=embedded`` tests that ask for one are skipped; otherwise a server that is
missing fails the test, so that a green run means that it was there.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from doorward.simulate.services import Mosquitto, Postgresql, running, workplace

StartMosquitto: TypeAlias = Callable[[str], Mosquitto]

_numbers = count(1)


def embedded_only() -> bool:
    """Whether this run may use nothing that is not in the Python environment."""
    return os.environ.get("DOORWARD_TEST_ENGINES", "") == "embedded"


def store_engines() -> tuple[str, ...]:
    """Names of the stores that this run tests."""
    return ("sqlite",) if embedded_only() else ("sqlite", "postgresql")


def link_engines() -> tuple[str, ...]:
    """Names of the links that this run tests."""
    return ("websocket",) if embedded_only() else ("websocket", "mqtt")


def _needs(server: str) -> None:
    if embedded_only():
        pytest.skip(f"needs {server}; DOORWARD_TEST_ENGINES=embedded")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    """One throw-away cluster for the session. A test that kills it makes its own instead."""
    _needs("PostgreSQL")
    with workplace(None) as directory:
        server = Postgresql(directory)
        with running(server):
            yield server


@pytest.fixture
async def postgresql_dsn(postgresql_server: Postgresql) -> AsyncIterator[str]:
    """A fresh, empty database, dropped after the test whatever still holds it open."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    await _administer(postgresql_server.dsn, f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(postgresql_server.dsn)._replace(path=f"/{name}"))
    finally:
        await _administer(postgresql_server.dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _administer(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[StartMosquitto]:
    """Start brokers: ``start_mosquitto(config)``, where ``config`` follows the listener line."""
    _needs("Mosquitto")
    with ExitStack() as stack:

        def start(config: str = "allow_anonymous true") -> Mosquitto:
            directory = tmp_path / f"mosquitto-{next(_numbers)}"
            directory.mkdir()
            server = Mosquitto(directory, config)
            stack.enter_context(running(server))
            return server

        yield start
