"""The place in which every world begins: two gateways on different partitions, three homes, six devices, and
two third parties with permissions.

Everything that does not depend on the seed is made once a process, for thousands of worlds.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from doorward.ccs.engines.standard_formats import standard_formats
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import Device as DeviceRow
from doorward.ccs.rules.facts import Endpoint, Gateway, Grant, Link, LinkKind, Party, ServicePoint, Tier
from doorward.ccs.rules.formats import Catalogue
from doorward.ccs.rules.identity import Claims, TokenReader, write_token
from doorward.simulate.world.devices import Device
from doorward.simulate.world.disk import CcsDisk, GatewayDisk
from doorward.wire import topics
from doorward.wire.codec import gateway_key
from doorward.wire.grants import DevicePermit, GrantDocument, LeaseDocument
from doorward.wire.signatures import public_jwk, sign
from doorward.wire.vocabulary import DeviceClass, Operation

US = 1_000_000
HOUR_US = 3600 * US
DAY_US = 24 * HOUR_US
START_US = 1_800_000_000 * US
"""True time when a world begins."""

PER_HOUR = 8
PER_DAY = 14
"""Limits of a service point: small, so that a small world reaches them (real ones differ by a number only)."""
RESPONSE_S = 60
TOKEN_S = 7 * 24 * 3600

MASTER = b"m" * 32
ISSUER = "https://ccs.example"
AUTHORITY_KID = "authority"
TOKEN_KID = "tokens"

GATEWAYS = ("gw-a", "gw-d")
"""Of an even and an odd partition: with two workers each has one."""
HOMES = {"sp-1": "gw-a", "sp-2": "gw-a", "sp-3": "gw-d"}
PARTIES = ("bright", "sun")
DEVICES = {
    "relay-1": (DeviceClass.RELAY, "sp-1"),
    "ev-1": (DeviceClass.EV_CHARGER, "sp-1"),
    "relay-2": (DeviceClass.RELAY, "sp-2"),
    "relay-3": (DeviceClass.RELAY, "sp-3"),
    "ev-3": (DeviceClass.EV_CHARGER, "sp-3"),
    "th-3": (DeviceClass.THERMOSTAT, "sp-3"),
}
OPERATIONS = {
    DeviceClass.RELAY: (Operation.READ, Operation.TURN_OFF, Operation.TURN_ON),
    DeviceClass.EV_CHARGER: (Operation.READ, Operation.LIMIT, Operation.TURN_OFF),
    DeviceClass.THERMOSTAT: (Operation.READ, Operation.SETPOINT),
}

_authority = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
_tokens = Ed25519PrivateKey.from_private_bytes(b"t" * 32)

AUTHORITY_KEYS = {AUTHORITY_KID: public_jwk(_authority.public_key())}


class Consent:
    """The consent authority (:class:`~doorward.ccs.ports.ConsentAuthority`), its signatures remembered.

    ``is_down`` says whether it answers; then no lease is renewed.
    """

    def __init__(self, is_down: Callable[[], bool] = lambda: False) -> None:
        self._is_down = is_down

    def sign_grant(self, document: bytes) -> str:
        """Sign a grant."""
        return _signed(document, "grant")

    def sign_lease(self, document: bytes) -> str:
        """Sign a lease."""
        if self._is_down():
            raise ConnectionError("simulated: the consent authority does not answer")
        return _signed(document, "lease")

    def public_keys(self) -> dict[str, dict[str, str]]:
        """Its keys."""
        return AUTHORITY_KEYS


@lru_cache(maxsize=10_000)
def _signed(document: bytes, kind: str) -> str:
    return sign(document, _authority, AUTHORITY_KID, kind)


def devices() -> list[Device]:
    """Return the devices, as their owners left them."""
    return [Device(name, kind, home, HOMES[home], full_w=2000.0) for name, (kind, home) in DEVICES.items()]


def link_key(gateway: str) -> bytes:
    """Return the MAC key of a gateway."""
    return gateway_key(MASTER, gateway, 1)


@lru_cache(maxsize=100)
def token(party: str) -> str:
    """Return an access token of a third party that lasts longer than a world."""
    issued_s = START_US // US - 3600
    claims = Claims(
        iss=ISSUER,
        aud=ISSUER,
        sub=party,
        client_id=party,
        exp=issued_s + TOKEN_S,
        iat=issued_s,
        jti=f"token-{party}",
        scope="monitor control",
    )
    return write_token(claims, _tokens, TOKEN_KID)


@lru_cache(maxsize=1)
def token_reader() -> TokenReader:
    """Return what verifies access tokens; it remembers what it has verified."""
    return TokenReader({TOKEN_KID: public_jwk(_tokens.public_key())}, ISSUER, ISSUER)


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """Return the standard message formats."""
    return Catalogue(standard_formats())


def grant(
    party: str, service_point: str, version: int, *, state: str = "live", at_us: int = START_US
) -> Grant:
    """Return a version of a permission as it is decided at ``at_us``."""
    id = f"grant-{party}-{service_point}"
    document = GrantDocument(
        grant=id,
        version=version,
        party=party,
        service_point=service_point,
        purpose="savings",
        devices=[
            DevicePermit(device=name, device_class=kind, operations=list(OPERATIONS[kind]))
            for name, (kind, home) in DEVICES.items()
            if home == service_point
        ],
        not_before_us=START_US - DAY_US,
        expires_us=START_US + 30 * DAY_US,
        issued_us=at_us,
        service_point_limit=True,
        tier_hour=PER_HOUR,
        tier_day=PER_DAY,
    )
    made = Grant(
        id=id,
        party=party,
        service_point=service_point,
        version=version,
        state=state,  # type: ignore[arg-type]
        tier="gold",
        document=document,
        signed=_signed(msgspec.json.encode(document), "grant"),
        changed_us=at_us,
    )
    return leased(made, at_us)


def leased(one: Grant, at_us: int, *, us: int = DAY_US) -> Grant:
    """Return a grant with a lease from ``at_us``."""
    lease = LeaseDocument(grant=one.id, version=one.version, until_us=at_us + us, issued_us=at_us)
    return replace(one, lease_until_us=at_us + us, lease_signed=_signed(msgspec.json.encode(lease), "lease"))


GRANTED = (("bright", "sp-1"), ("bright", "sp-2"), ("bright", "sp-3"), ("sun", "sp-3"))
"""Who may at first: (third party, service point)."""


async def build(books: AllBooks) -> None:
    """Set the place up, an hour before the world begins."""
    since_us = START_US - HOUR_US
    await books.put_tiers(
        [Tier(name="gold", per_hour=PER_HOUR, per_day=PER_DAY, response_s=RESPONSE_S, top_priority=0)]
    )
    await books.put_parties([Party(id=name, name=name) for name in PARTIES])
    await books.put_service_points([ServicePoint(id=home) for home in HOMES])
    await books.put_gateways(
        [
            Gateway(id=name, partition=topics.partition_of(name), state="enrolled", key_generation=1)
            for name in GATEWAYS
        ]
    )
    await books.put_equipment([_row(name, kind) for name, (kind, _) in DEVICES.items()])
    at_gateway = LinkKind.SERVICE_POINT_GATEWAY
    at_home = LinkKind.DEVICE_SERVICE_POINT
    await books.put_links(
        [Link(kind=at_gateway, a=home, b=gateway, since_us=since_us) for home, gateway in HOMES.items()]
        + [Link(kind=at_home, a=name, b=home, since_us=since_us) for name, (_, home) in DEVICES.items()]
    )
    await books.put_grants([grant(*pair, 1, at_us=since_us) for pair in GRANTED])
    for party, mode in zip(PARTIES, ("full", "thin"), strict=True):
        await books.put_endpoint(
            Endpoint(
                id="hook",
                party=party,
                url=f"https://{party}.example/hook",
                mode=mode,  # type: ignore[arg-type]
                pin="00" if mode == "full" else "",
                state="proved",
            )
        )


def _row(name: str, kind: DeviceClass) -> DeviceRow:
    return DeviceRow(
        id=name,
        service_point="",
        device_class=kind,
        name=name,
        protocol="sim",
        model="sim",
        address=name,
        rated_w=2000.0,
    )


class _Start:
    """The clock at the beginning."""

    def now_us(self) -> int:
        return START_US - HOUR_US


class Disks:
    """The databases of a world, made once and wound back for each."""

    def __init__(self) -> None:
        self.ccs = CcsDisk(_Start())
        self.gateways = {name: GatewayDisk() for name in GATEWAYS}

    @classmethod
    def made(cls) -> "Disks":
        """Make and fill them."""
        disks = cls()
        asyncio.run(disks._fill())
        return disks

    async def _fill(self) -> None:
        await self.ccs.write(build)
        served = [topics.partition_of(name) for name in GATEWAYS]
        self.ccs.ask("DELETE FROM lease WHERE partition NOT IN (?, ?)", *served)  # nobody lives there
        await self.ccs.keep()
        for disk in self.gateways.values():
            await disk.keep()

    async def rewind(self) -> None:
        """Forget the last world."""
        await self.ccs.rewind()
        for disk in self.gateways.values():
            await disk.rewind()

    def changes(self) -> int:
        """How many rows were ever changed on all of them."""
        return self.ccs.changes() + sum(disk.changes() for disk in self.gateways.values())
