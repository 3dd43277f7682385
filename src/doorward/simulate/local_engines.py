"""The production pair's broker for a utility on this machine, and a look into the CCS's own books."""

from pathlib import Path

from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.engines.link_mqtt import mosquitto_acl, mosquitto_config
from doorward.ccs.engines.opening import open_store
from doorward.ccs.rules.facts import StepRecord
from doorward.client.defaults import real_clock
from doorward.kit.tls import Credentials
from doorward.simulate.services import Mosquitto

HOST = "127.0.0.1"


def broker(place: Path, authority: Path, workers: int) -> Mosquitto:
    """Return a broker in ``place`` to whom everybody proves who they are, by the utility's authority."""
    acl = place / "acl"
    acl.write_text(mosquitto_acl([f"ccs-{number}" for number in range(1, workers + 1)]), encoding="utf-8")
    ca = CertificateAuthority(authority, real_clock().now_us)
    return Mosquitto(place, mosquitto_config(ca.server("broker", [HOST]), ca.path, acl))


def server_credentials(authority: Path, name: str) -> Credentials:
    """Return a certificate of the utility's authority for a server on this machine."""
    return CertificateAuthority(authority, real_clock().now_us).server(name, [HOST])


async def journal(database: str, message: str) -> list[StepRecord]:
    """Return what the CCS's books say about a message, one that was refused too."""
    store = await open_store(database, clock=real_clock())
    try:
        rows = await store.read(lambda books: books.journal(message))
    finally:
        await store.close()
    return [step for row in rows for step in row.steps]
