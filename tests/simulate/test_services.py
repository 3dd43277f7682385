"""The throw-away servers: real, private, and gone afterwards."""

import socket
from pathlib import Path

import asyncpg
import pytest

from doorward.simulate import services
from doorward.simulate.services import Mosquitto, Postgresql, ServiceUnavailable, running, workplace
from tests.services import StartMosquitto, embedded_only


async def test_each_test_gets_an_empty_database_that_flushes_to_disk(postgresql_dsn: str) -> None:
    connection = await asyncpg.connect(postgresql_dsn)
    try:
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    finally:
        await connection.close()


@pytest.mark.skipif(embedded_only(), reason="needs PostgreSQL")
async def test_what_was_committed_outlives_a_killed_postgresql() -> None:
    with workplace(None) as directory, running(Postgresql(directory)) as server:
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
        server.kill()
        connection.terminate()
        server.start()
        connection = await asyncpg.connect(server.dsn)
        assert await connection.fetchval("SELECT seven FROM kept") == 7
        await connection.close()


def test_a_broker_listens_on_loopback_until_it_is_stopped(start_mosquitto: StartMosquitto) -> None:
    server = start_mosquitto("allow_anonymous true")
    port = server.port
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.skipif(embedded_only(), reason="needs Mosquitto")
def test_a_server_that_cannot_start_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "RETRY_WAIT_S", 0.0)
    with pytest.raises(ServiceUnavailable, match="not_an_option"):
        Mosquitto(tmp_path, "not_an_option 1").start()
