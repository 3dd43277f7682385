"""A utility of any size, set up in bulk: the CCS's own store and authorities, without its doors.

What gateways and third parties would be given by enrolment and by ``doorward apply`` is made here directly;
from then on everything is real.
"""

import random
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from doorward.ccs.app import KEYS_DIR, database_url
from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.engines.consent import LocalConsentAuthority
from doorward.ccs.engines.keys import load_keys
from doorward.ccs.engines.opening import open_store
from doorward.ccs.engines.secrets import SecretHasher
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import (
    Credential,
    Device,
    Gateway,
    Grant,
    Link,
    LinkKind,
    Party,
    ServicePoint,
    Tier,
)
from doorward.ccs.settings import AUTHORITY_DIR, CcsSettings
from doorward.ccs.setup.grants import build_grant
from doorward.kit.clock import Clock
from doorward.simulate.bench.briefs import HOST, Homes, Market, Seat, Trader
from doorward.simulate.bench.home import PROTOCOL, RATED_W
from doorward.simulate.bench.plan import PER_HOUR, Plan
from doorward.wire import topics
from doorward.wire.codec import gateway_key
from doorward.wire.enrolment import LinkAddress
from doorward.wire.grants import DevicePermit
from doorward.wire.vocabulary import DeviceClass, Operation

HOUR_US = 3_600_000_000
SLICE = 500
"""Things that go into the store in one transaction."""
TOKEN_S = 3_600
CALLS_PER_S = 1_000_000
"""The door's rate per third party, which is not what is measured."""
TIER = Tier(name="bench", per_hour=PER_HOUR, per_day=PER_HOUR * 24, response_s=60, top_priority=0)

T = TypeVar("T")


class Town(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was set up."""

    homes: Homes
    market: Market
    authority: CertificateAuthority


def gateway_name(number: int) -> str:
    """The id of a gateway."""
    return f"SPG-{number:05d}"


def point_name(number: int) -> str:
    """The id of a service point; behind the gateway of the same number, modulo their count."""
    return f"SP-{number:06d}"


def device_name(number: int) -> str:
    """The id of the device at a service point."""
    return f"EV-{number:06d}"


class Builder:
    """Builds the town of a plan. ``settings`` are the CCS's, whose keys and books are there already."""

    def __init__(self, plan: Plan, settings: CcsSettings, clock: Clock, rng: random.Random) -> None:
        self._plan = plan
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._authority = CertificateAuthority(settings.data_dir / AUTHORITY_DIR, clock.now_us)
        self._consent = LocalConsentAuthority(settings.data_dir / AUTHORITY_DIR)
        self._keys = load_keys(settings.data_dir / KEYS_DIR, rng)

    async def build(self, place: Path, link: LinkAddress) -> Town:
        """Make everything; files go to ``place``."""
        seats, gateways = self._seats(place)
        secrets = {self._party(number): self._rng.randbytes(24).hex() for number in range(self._plan.parties)}
        await self._fill(gateways, secrets)
        sink = self._authority.server("bench-sink", [HOST])
        certificate = x509.load_pem_x509_certificate(sink.certificate.read_bytes())
        return Town(
            authority=self._authority,
            homes=Homes(
                ca=self._authority.pem,
                link=link,
                consent_keys=self._consent.public_keys(),
                seats=seats,
                light=self._plan.light,
            ),
            market=Market(
                host=HOST,
                port=self._settings.port,
                traders=[
                    Trader(party=party, secret=secret, devices=self._devices_of(number))
                    for number, (party, secret) in enumerate(secrets.items())
                ],
                sink_certificate=str(sink.certificate),
                sink_key=str(sink.key),
                sink_pin=sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
                ca=self._authority.pem,
            ),
        )

    def _party(self, number: int) -> str:
        return f"party-{number}"

    def _devices_of(self, party: int) -> list[str]:
        return [device_name(number) for number in range(party, self._plan.points, self._plan.parties)]

    def _seats(self, place: Path) -> tuple[list[Seat], list[Gateway]]:
        seats, gateways = [], []
        for number in range(self._plan.gateways):
            seat, gateway = self._seat(gateway_name(number), place)
            seats.append(seat)
            gateways.append(gateway)
        return seats, gateways

    def _seat(self, id: str, place: Path) -> tuple[Seat, Gateway]:
        """A gateway with a key and a certificate of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, id)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
        pem, fingerprint = self._authority.sign_gateway(csr.public_bytes(Encoding.PEM).decode(), id)
        certificate_file, key_file = place / f"{id}.pem", place / f"{id}.key"
        certificate_file.write_text(pem)
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        seat = Seat(
            gateway=id,
            certificate=str(certificate_file),
            key=str(key_file),
            mac_key=gateway_key(self._keys.link, id, 1),
        )
        gateway = Gateway(
            id=id,
            partition=topics.partition_of(id),
            state="enrolled",
            key_generation=1,
            certificate=fingerprint,
        )
        return seat, gateway

    async def _fill(self, gateways: list[Gateway], secrets: dict[str, str]) -> None:
        store = await open_store(database_url(self._settings), clock=self._clock)
        try:
            parties = [self._third_party(party) for party in secrets]
            credentials = self._credentials(secrets)

            async def people(books: AllBooks) -> None:
                await books.put_tiers([TIER])
                await books.put_parties(parties)
                await books.put_credentials(credentials)

            await store.write(people)
            for part in _slices(gateways):
                await store.write(lambda books, part=part: books.put_gateways(part))  # type: ignore[misc]
            for numbers in _slices(range(self._plan.points)):
                await store.write(lambda books, numbers=numbers: self._points(books, numbers, parties))  # type: ignore[misc]
        finally:
            await store.close()

    def _third_party(self, id: str) -> Party:
        return Party(id=id, name=id, token_s=TOKEN_S, calls_per_s=CALLS_PER_S)

    def _credentials(self, secrets: dict[str, str]) -> list[Credential]:
        hasher = SecretHasher(self._rng.randbytes(32))
        try:
            return [
                Credential(id=f"{party}-1", party=party, kind="secret", value=hasher.hash(secret))
                for party, secret in secrets.items()
            ]
        finally:
            hasher.close()

    async def _points(self, books: AllBooks, numbers: Sequence[int], parties: list[Party]) -> None:
        """Service points with their device, gateway and permission."""
        since_us = self._clock.now_us() - HOUR_US
        points = [ServicePoint(id=point_name(number)) for number in numbers]
        await books.put_service_points(points)
        await books.put_equipment([_device(number) for number in numbers])
        await books.put_links(
            [
                Link(
                    kind=LinkKind.SERVICE_POINT_GATEWAY,
                    a=point_name(number),
                    b=gateway_name(number % self._plan.gateways),
                    since_us=since_us,
                )
                for number in numbers
            ]
        )
        await books.put_links(
            [
                Link(
                    kind=LinkKind.DEVICE_SERVICE_POINT,
                    a=device_name(number),
                    b=point_name(number),
                    since_us=since_us,
                )
                for number in numbers
            ]
        )
        await books.put_grants(
            [
                self._grant(number, point, parties[number % len(parties)])
                for number, point in zip(numbers, points, strict=True)
            ]
        )

    def _grant(self, number: int, point: ServicePoint, party: Party) -> Grant:
        # As old as nearly all permissions are: a fresh one is pushed again before its first request.
        now_us = self._clock.now_us() - HOUR_US
        return build_grant(
            grant=f"G-{number:06d}",
            party=party,
            tier=TIER,
            service_point=point,
            permits=[
                DevicePermit(
                    device=device_name(number),
                    device_class=DeviceClass.EV_CHARGER,
                    operations=[Operation.READ, Operation.LIMIT],
                )
            ],
            purpose="measuring",
            expires_us=now_us + 24 * HOUR_US,
            now_us=now_us,
            consent=self._consent,
        )


def _device(number: int) -> Device:
    return Device(
        id=device_name(number),
        service_point=point_name(number),
        device_class=DeviceClass.EV_CHARGER,
        name="",
        protocol=PROTOCOL,
        model="memory",
        address=str(number),
        rated_w=RATED_W,
    )


def _slices(things: Sequence[T]) -> Iterable[Sequence[T]]:
    for at in range(0, len(things), SLICE):
        yield things[at : at + SLICE]
