"""The tables of a utility's file, as they are written."""

from typing import Any, Literal

import msgspec

from doorward.ccs.rules.people import Role
from doorward.wire.vocabulary import DeviceClass, Operation


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all tables of the file."""


class TierTable(Table, frozen=True, kw_only=True):
    """``[[tier]]``: messages per hour and day to one service point, and how soon an answer must be there."""

    name: str
    per_hour: int
    per_day: int
    response_s: int
    top_priority: int = 0


class PartyTable(Table, frozen=True, kw_only=True):
    """``[[party]]``: a third party. One of the ``secret_…`` keys, or ``jwks_file`` with ``private_key_jwt``."""

    id: str
    name: str
    auth: Literal["secret", "private_key_jwt"] = "secret"
    state: Literal["active", "suspended"] | None = None
    secret_env: str = ""
    secret_file: str = ""
    secret_hash: str = ""
    jwks_file: str = ""
    command_keys_file: str = ""
    token_binding: Literal["", "dpop", "certificate"] = ""
    signature_required: bool | None = None
    scopes: list[str] = msgspec.field(default_factory=lambda: ["monitor", "control"])
    token_s: int = 600
    calls_per_s: int = 200
    contact: str = ""
    utility: bool = False
    offer: dict[str, Any] = {}


class SystemTable(Table, frozen=True, kw_only=True):
    """``[[system]]``: another system of the utility. It proves itself as a third party does."""

    id: str
    name: str
    scopes: list[str]
    auth: Literal["secret", "private_key_jwt"] = "secret"
    state: Literal["active", "suspended"] | None = None
    secret_env: str = ""
    secret_file: str = ""
    secret_hash: str = ""
    jwks_file: str = ""
    token_binding: Literal["", "dpop", "certificate"] = ""
    token_s: int = 600
    calls_per_s: int = 200
    contact: str = ""


class SubscriptionTable(Table, frozen=True, kw_only=True):
    """``[[subscription]]``: which events a system is pushed, and to which of its endpoints."""

    id: str
    system: str
    endpoint: str = ""
    kinds: list[str] = []
    third_party: str = ""
    service_point: str = ""
    gateway: str = ""
    failed_only: bool = False
    state: Literal["active", "paused"] = "active"


class OfferTable(Table, frozen=True, kw_only=True):
    """``[party.offer]``: what it offers to customers, and the tier that it agrees to.

    ``wants`` are verbs (see, switch, limit, set, schedule) by device class; ``verified`` is the day on which
    the utility verified who it is.
    """

    tier: str
    legal_name: str = ""
    purpose: str = "energy savings"
    website: str = ""
    wants: dict[DeviceClass, list[str]] = {}
    verified: Any = None
    open: bool = True


class PersonTable(Table, frozen=True, kw_only=True):
    """``[[person]]``: somebody who can sign in. ``of`` is the customer or third party that they act for."""

    id: str
    role: Role
    name: str
    login: str = ""
    of: str = ""
    email: str = ""
    state: Literal["active", "disabled"] = "active"
    fahrenheit: bool = False


class CustomerTable(Table, frozen=True, kw_only=True):
    """``[[customer]]``."""

    id: str
    name: str = ""
    contact: str = ""


class AccountTable(Table, frozen=True, kw_only=True):
    """``[[account]]``, with the customers who hold it."""

    id: str
    name: str = ""
    customers: list[str] = []


class MeterTable(Table, frozen=True, kw_only=True):
    """``[[meter]]``."""

    id: str
    serial: str = ""
    model: str = ""


class GatewayTable(Table, frozen=True, kw_only=True):
    """``[[gateway]]``; ``code_file`` is where its one-time enrolment code is written."""

    id: str
    code_file: str = ""


class ServicePointTable(Table, frozen=True, kw_only=True):
    """``[[service_point]]``: whose account, which gateway, which meters, which part of the grid."""

    id: str
    account: str = ""
    gateway: str = ""
    meters: list[str] = []
    timezone: str = "UTC"
    address: str = ""
    area: str = ""
    service: Literal["on", "off"] | None = None


class DeviceTable(Table, frozen=True, kw_only=True, rename={"device_class": "class"}):
    """``[[device]]``: a piece of equipment, where it is and how the gateway reaches it."""

    id: str
    device_class: DeviceClass
    protocol: Literal["modbus", "ocpp"]
    address: str
    service_point: str = ""
    name: str = ""
    model: str = ""
    serial: str = ""
    rated_w: float = 0.0


class BoundsTable(Table, frozen=True, kw_only=True):
    """``bounds``: the customer's own; ``between`` are local times, ``["18:00", "22:00"]``."""

    watts_min: float | None = None
    watts_max: float | None = None
    celsius_min: float | None = None
    celsius_max: float | None = None
    offset_max: float | None = None
    times_per_day: int | None = None
    between: tuple[str, str] | None = None
    hours_max: float | None = None


class PermitTable(Table, frozen=True, kw_only=True):
    """``[[grant.device]]``: what is permitted on one device."""

    id: str
    operations: list[Operation]
    bounds: dict[str, Any] = {}


class GrantTable(Table, frozen=True, kw_only=True):
    """``[[grant]]``: a customer's permission. ``consent`` refers to the customer's yes (a form, a call)."""

    party: str
    service_point: str
    purpose: str
    tier: str
    until: Any
    """A day or a time with its zone; ``from`` too (without it, from when the permission is first given)."""
    from_: Any = None
    consent: str = ""
    service_point_limit: bool = False
    signature_required: bool = False
    device: list[dict[str, Any]] = []


TABLES: dict[str, type[Table]] = {
    "tier": TierTable,
    "party": PartyTable,
    "system": SystemTable,
    "subscription": SubscriptionTable,
    "customer": CustomerTable,
    "account": AccountTable,
    "meter": MeterTable,
    "gateway": GatewayTable,
    "service_point": ServicePointTable,
    "device": DeviceTable,
    "grant": GrantTable,
    "person": PersonTable,
}
