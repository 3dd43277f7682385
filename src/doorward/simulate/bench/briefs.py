"""What the processes of a bench are told at their beginning: files that one writes and another reads."""

import ssl

import msgspec

from doorward.wire.enrolment import LinkAddress

HOST = "127.0.0.1"


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway would have after its enrolment."""

    gateway: str
    certificate: str
    key: str
    mac_key: bytes


class Homes(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of gateways is told. ``link`` is where they connect."""

    ca: str
    link: LinkAddress
    consent_keys: dict[str, dict[str, str]]
    seats: list[Seat]
    light: bool = False


class Trader(msgspec.Struct, frozen=True, kw_only=True):
    """A third party: how it proves itself, and the devices that it may ask."""

    party: str
    secret: str
    devices: list[str]


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of third parties is told. Without a ``secret``, no token is asked for."""

    host: str
    port: int
    traders: list[Trader]
    sink_certificate: str = ""
    sink_key: str = ""
    sink_pin: str = ""
    ca: str = ""


def sink_context(market: Market) -> ssl.SSLContext:
    """Return the TLS context of the third parties' endpoint."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(market.sink_certificate, market.sink_key)
    return context
