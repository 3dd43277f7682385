"""A utility's file: its tables, read into what is wanted, with every mistake named by line and field."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from doorward.ccs.rules.facts import (
    Account,
    Credential,
    Customer,
    Device,
    LinkKind,
    Meter,
    Party,
    ServicePoint,
    Tier,
)
from doorward.ccs.setup.plan import OWN_PREFIX, LinkEnds, Wanted, WantedGrant
from doorward.cli.toml_places import Path as Place
from doorward.cli.toml_places import Places
from doorward.wire.enrolment import is_gateway_id
from doorward.wire.grants import Bounds, DevicePermit
from doorward.wire.signatures import key_from_jwk
from doorward.wire.times import from_rfc3339
from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass, Operation

FILE_BYTES_MAX = 16 * 1024 * 1024
ID_CHARS_MAX = 64

T = TypeVar("T")


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
    signature_required: bool = False
    scopes: list[str] = msgspec.field(default_factory=lambda: ["monitor", "control"])
    token_s: int = 600
    calls_per_s: int = 200
    contact: str = ""


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
    """``[[service_point]]``: whose account, which gateway, which meters."""

    id: str
    account: str = ""
    gateway: str = ""
    meters: list[str] = []
    timezone: str = "UTC"
    address: str = ""
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
    "customer": CustomerTable,
    "account": AccountTable,
    "meter": MeterTable,
    "gateway": GatewayTable,
    "service_point": ServicePointTable,
    "device": DeviceTable,
    "grant": GrantTable,
}


class Problem(msgspec.Struct, frozen=True, order=True):
    """A mistake in the file."""

    line: int
    field: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.text}"


class FileWrong(Exception):
    """The file cannot be used; ``problems`` are all that was found, by line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


class Read(msgspec.Struct, frozen=True):
    """A file that is right: what is wanted, secrets still to be hashed, and where codes are to be written."""

    wanted: Wanted
    secrets: dict[str, str]
    code_files: dict[str, Path]


class _Refs:
    """The tables of the file, and the mistakes found so far."""

    def __init__(self, text: str, directory: Path, environ: Mapping[str, str]) -> None:
        self.places = Places(text)
        self.directory = directory
        self.environ = environ
        self.problems: list[Problem] = []
        self.rows: dict[str, list[tuple[Place, Any]]] = {name: [] for name in TABLES}
        self.faulty: set[tuple[str, str]] = set()
        """(table, id) of tables that have mistakes: what refers to them is not one more."""

    def wrong(self, place: Place, text: str) -> None:
        field = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place)
        self.problems.append(Problem(self.places.line(place), field.removeprefix("."), text))

    def ids(self, table: str) -> dict[str, Any]:
        key = "name" if table == "tier" else "id"
        return {getattr(row, key): row for _, row in self.rows[table]}

    def must_be(self, place: Place, table: str, id: str) -> bool:
        """Whether a reference leads somewhere; a mistake otherwise."""
        known = self.ids(table)
        if id in known:
            return True
        if (table, id) in self.faulty:
            return False
        self.wrong(place, f"there is no {table} {id!r}{_near(id, known)}")
        return False

    def file(self, place: Place, name: str) -> bytes | None:
        try:
            return (self.directory / name).read_bytes()
        except OSError as error:
            self.wrong(place, f"{name}: {error.strerror}")
            return None


def read_utility(text: str, directory: Path, environ: Mapping[str, str] | None = None) -> Read:
    """Return what a file describes; raise :class:`FileWrong` with all its mistakes.

    Other files that it names are relative to ``directory``; ``environ`` has the secrets of ``secret_env``.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileWrong([_not_toml(error)]) from None
    refs = _Refs(text, directory, os.environ if environ is None else environ)
    _read_tables(refs, document)
    _unique(refs)
    secrets, credentials = _credentials(refs)
    wanted = Wanted(
        tiers=[Tier(**_fields(row)) for _, row in refs.rows["tier"]],
        parties=[_party(refs, place, row) for place, row in refs.rows["party"]],
        credentials=credentials,
        customers=[Customer(**_fields(row)) for _, row in refs.rows["customer"]],
        accounts=[Account(id=row.id, name=row.name) for _, row in refs.rows["account"]],
        service_points=[_service_point(refs, place, row) for place, row in refs.rows["service_point"]],
        meters=[Meter(**_fields(row)) for _, row in refs.rows["meter"]],
        gateways=[row.id for _, row in refs.rows["gateway"]],
        devices=[_device(row) for _, row in refs.rows["device"]],
        links=_links(refs),
        grants=_grants(refs),
        said=_said(refs),
        coded=frozenset(row.id for _, row in refs.rows["gateway"] if row.code_file),
    )
    if refs.problems:
        raise FileWrong(sorted(set(refs.problems)))
    code_files = {row.id: directory / row.code_file for _, row in refs.rows["gateway"] if row.code_file}
    return Read(wanted, secrets, code_files)


def _not_toml(error: tomllib.TOMLDecodeError) -> Problem:
    found = [word for word in str(error).replace(",", " ").split() if word.isdigit()]
    return Problem(int(found[0]) if found else 1, "(file)", f"not TOML: {error}")


# --- tables -----------------------------------------------------------------------------------------


def _read_tables(refs: _Refs, document: Mapping[str, Any]) -> None:
    for name, entries in document.items():
        if name not in TABLES:
            refs.wrong((name,), f"unknown table{_near(name, TABLES)}")
        elif not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            refs.wrong((name,), f"write [[{name}]] for each")
        else:
            for number, entry in enumerate(entries):
                row = _row(refs, (name, number), TABLES[name], entry)
                if row is not None:
                    refs.rows[name].append(((name, number), row))
                else:
                    refs.faulty.add((name, str(entry.get("name" if name == "tier" else "id"))))


def _row(refs: _Refs, place: Place, kind: type[T], entry: Mapping[str, Any]) -> T | None:
    """Return a table as its struct, or ``None`` after all that is wrong with it was noted."""
    hints = get_type_hints(kind)
    shown = {struct.encode_name: struct for struct in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
    names = {name.removesuffix("_"): field for name, field in shown.items()}
    values: dict[str, Any] = {}
    before = len(refs.problems)
    for key, value in entry.items():
        if key not in names:
            refs.wrong((*place, key), f"unknown key{_near(key, names)}")
            continue
        try:
            values[names[key].name] = msgspec.convert(value, hints[names[key].name])
        except msgspec.ValidationError as error:
            refs.wrong((*place, key), str(error))
    for key, field in names.items():
        if field.required and key not in entry:
            refs.wrong((*place, key), "is missing")
    return kind(**values) if len(refs.problems) == before else None


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _fields(row: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(row)


def _unique(refs: _Refs) -> None:
    for table, rows in refs.rows.items():
        if table == "grant":
            continue
        key = "name" if table == "tier" else "id"
        first: dict[str, Place] = {}
        for place, row in rows:
            id = getattr(row, key)
            if not 0 < len(id) <= ID_CHARS_MAX or id != id.strip():
                refs.wrong(
                    (*place, key), f"must have 1 to {ID_CHARS_MAX} characters, and no blank at its ends"
                )
            if table == "gateway" and not is_gateway_id(id):
                refs.wrong((*place, key), "letters, digits, '.', '_' and '-' only, and not 'ccs-…'")
            if id in first:
                refs.wrong((*place, key), f"{id!r} is already at line {refs.places.line((*first[id], key))}")
            first.setdefault(id, place)


def _said(refs: _Refs) -> frozenset[tuple[str, str]]:
    parties = {("party", row.id) for _, row in refs.rows["party"] if row.state}
    return frozenset(
        parties | {("service_point", row.id) for _, row in refs.rows["service_point"] if row.service}
    )


# --- third parties ----------------------------------------------------------------------------------

_PROOFS = ("secret_env", "secret_file", "secret_hash", "jwks_file")


def _credentials(refs: _Refs) -> tuple[dict[str, str], list[Credential]]:
    """Return secrets in the clear by credential id, and the credentials (their ``value`` then empty)."""
    secrets: dict[str, str] = {}
    credentials = []
    for place, row in refs.rows["party"]:
        given = [name for name in _PROOFS if getattr(row, name)]
        needed = (
            "jwks_file" if row.auth == "private_key_jwt" else "one of secret_env, secret_file, secret_hash"
        )
        right = len(given) == 1 and (given == ["jwks_file"]) == (row.auth == "private_key_jwt")
        if not right:
            refs.wrong((*place, given[-1] if given else "auth"), f"auth {row.auth!r} needs {needed}, alone")
            continue
        kind: Literal["secret", "jwks"] = "jwks" if row.jwks_file else "secret"
        id, value = f"{OWN_PREFIX}{row.id}.{kind}", ""
        if row.jwks_file:
            value = _jwks(refs, (*place, "jwks_file"), row.jwks_file)
        elif row.secret_hash:
            value = _hash(refs, (*place, "secret_hash"), row.secret_hash)
        else:
            secrets[id] = _secret(refs, place, row)
        credentials.append(Credential(id=id, party=row.id, kind=kind, value=value))
    return secrets, credentials


def _secret(refs: _Refs, place: Place, row: PartyTable) -> str:
    if row.secret_env:
        secret = refs.environ.get(row.secret_env, "")
        if not secret:
            refs.wrong((*place, "secret_env"), f"the environment has no {row.secret_env}")
        return secret
    raw = refs.file((*place, "secret_file"), row.secret_file)
    secret = (raw or b"").decode(errors="replace").strip()
    if raw is not None and not secret:
        refs.wrong((*place, "secret_file"), f"{row.secret_file} is empty")
    return secret


def _hash(refs: _Refs, place: Place, text: str) -> str:
    if not text.startswith("$argon2id$"):
        refs.wrong(place, "not an Argon2id hash; it begins with $argon2id$")
    return text


def _jwks(refs: _Refs, place: Place, name: str) -> str:
    keys = _keys(refs, place, name)
    return msgspec.json.encode({"keys": keys}).decode()


def _keys(refs: _Refs, place: Place, name: str) -> list[dict[str, Any]]:
    raw = refs.file(place, name)
    if raw is None:
        return []
    try:
        keys = msgspec.json.decode(raw, type=dict[str, list[dict[str, Any]]])["keys"]
    except (msgspec.DecodeError, KeyError):
        refs.wrong(place, f'{name} is not a JWK Set, {{"keys": [{{…}}]}}')
        return []
    if not keys or any("kid" not in key for key in keys):
        refs.wrong(place, f"{name}: every key needs its 'kid'")
    if any("d" in key for key in keys):
        refs.wrong(place, f"{name} has a private key ('d'); it must stay with the third party")
    return keys


def _party(refs: _Refs, place: Place, row: PartyTable) -> Party:
    keys: dict[str, dict[str, str]] = {}
    if row.command_keys_file:
        where = (*place, "command_keys_file")
        for key in _keys(refs, where, row.command_keys_file):
            jwk: dict[str, str] = {name: str(key[name]) for name in ("kty", "crv", "x") if name in key}
            try:
                key_from_jwk(jwk)
            except (ValueError, KeyError):
                refs.wrong(where, f"{key.get('kid')!r} is not an Ed25519 key")
            keys[str(key.get("kid"))] = jwk
    return Party(
        id=row.id,
        name=row.name,
        state=row.state or "active",
        auth=row.auth,
        token_s=row.token_s,
        scopes=row.scopes,
        signature_required=row.signature_required,
        keys=keys,
        calls_per_s=row.calls_per_s,
        contact=row.contact,
    )


# --- places and equipment ---------------------------------------------------------------------------


def _service_point(refs: _Refs, place: Place, row: ServicePointTable) -> ServicePoint:
    if _zone(row.timezone) is None:
        refs.wrong(
            (*place, "timezone"), f"there is no time zone {row.timezone!r}; write like America/Toronto"
        )
    return ServicePoint(id=row.id, service=row.service or "on", timezone=row.timezone, address=row.address)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _device(row: DeviceTable) -> Device:
    return Device(**_fields(row) | {"name": row.name or row.id})


def _links(refs: _Refs) -> list[LinkEnds]:
    links: list[LinkEnds] = []

    def link(place: Place, table: str, id: str, ends: LinkEnds) -> None:
        if refs.must_be(place, table, id):
            links.append(ends)

    for place, row in refs.rows["account"]:
        for number, customer in enumerate(row.customers):
            ends = (LinkKind.CUSTOMER_ACCOUNT, customer, row.id)
            link((*place, "customers", number), "customer", customer, ends)
    meters: dict[str, Place] = {}
    for place, row in refs.rows["service_point"]:
        if row.account:
            ends = (LinkKind.ACCOUNT_SERVICE_POINT, row.account, row.id)
            link((*place, "account"), "account", row.account, ends)
        if row.gateway:
            ends = (LinkKind.SERVICE_POINT_GATEWAY, row.id, row.gateway)
            link((*place, "gateway"), "gateway", row.gateway, ends)
        for number, meter in enumerate(row.meters):
            where = (*place, "meters", number)
            if meters.setdefault(meter, where) != where:
                refs.wrong(where, f"meter {meter!r} is already at line {refs.places.line(meters[meter])}")
            link(where, "meter", meter, (LinkKind.SERVICE_POINT_METER, row.id, meter))
    for place, row in refs.rows["device"]:
        if row.service_point:
            ends = (LinkKind.DEVICE_SERVICE_POINT, row.id, row.service_point)
            link((*place, "service_point"), "service_point", row.service_point, ends)
    return links


# --- permissions ------------------------------------------------------------------------------------


def _grants(refs: _Refs) -> list[WantedGrant]:
    grants = []
    first: dict[tuple[str, str], Place] = {}
    for place, row in refs.rows["grant"]:
        references = ("party", "service_point", "tier")
        whole = [refs.must_be((*place, name), name, getattr(row, name)) for name in references]
        pair = (row.party, row.service_point)
        if pair in first:
            refs.wrong(
                place, f"{row.party} has a grant there already, at line {refs.places.line(first[pair])}"
            )
        first.setdefault(pair, place)
        permits = _permits(refs, place, row)
        not_before_us, expires_us = _span(refs, place, row)
        if all(whole):
            grants.append(_grant(refs, row, permits, not_before_us, expires_us))
    return grants


def _span(refs: _Refs, place: Place, row: GrantTable) -> tuple[int, int]:
    point = refs.ids("service_point").get(row.service_point)
    zone = (_zone(point.timezone) if point else None) or ZoneInfo("UTC")
    not_before_us = _us(refs, (*place, "from"), row.from_, zone) if row.from_ is not None else 0
    expires_us = _us(refs, (*place, "until"), row.until, zone)
    if expires_us and not_before_us >= expires_us:
        refs.wrong((*place, "until"), "must be after 'from'")
    return not_before_us, expires_us


def _grant(
    refs: _Refs, row: GrantTable, permits: list[DevicePermit], not_before_us: int, expires_us: int
) -> WantedGrant:
    point = refs.ids("service_point")[row.service_point]
    # Who lives there is part of the name: the next occupant's yes is never the last one's.
    parts = [row.party, row.service_point, point.account, row.consent]
    return WantedGrant(
        id=OWN_PREFIX + ".".join(part for part in parts if part),
        party=row.party,
        service_point=row.service_point,
        purpose=row.purpose,
        tier=row.tier,
        permits=permits,
        expires_us=expires_us,
        not_before_us=not_before_us,
        service_point_limit=row.service_point_limit,
        signature_required=row.signature_required,
    )


def _us(refs: _Refs, place: Place, moment: object, zone: ZoneInfo) -> int:
    """A day begins at midnight in the service point's time zone."""
    if not isinstance(moment, date):
        refs.wrong(place, "is neither a day nor a time; write 2027-01-31 (without quotes)")
        return 0
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time(), zone)
    if moment.tzinfo is None:
        refs.wrong(place, "has no time zone; write 2027-01-31T18:00:00Z, or only the day")
        return 0
    return from_rfc3339(moment.astimezone(UTC).isoformat())


def _permits(refs: _Refs, place: Place, row: GrantTable) -> list[DevicePermit]:
    permits: list[DevicePermit] = []
    if not row.device:
        refs.wrong((*place, "device"), "is missing: a [[grant.device]] for each device that is permitted")
    devices = refs.ids("device")
    for number, entry in enumerate(row.device):
        where = (*place, "device", number)
        permit = _row(refs, where, PermitTable, entry)
        bounds = _row(refs, (*where, "bounds"), BoundsTable, permit.bounds) if permit else None
        if permit is None or bounds is None or not refs.must_be((*where, "id"), "device", permit.id):
            continue
        device = devices[permit.id]
        if device.service_point != row.service_point:
            at = device.service_point or "no service point"
            refs.wrong((*where, "id"), f"{permit.id} is at {at}, not at {row.service_point}")
        if any(permit.id == other.device for other in permits):
            refs.wrong((*where, "id"), f"{permit.id} stands twice in this grant")
        _operations(refs, (*where, "operations"), permit, device)
        permits.append(
            DevicePermit(
                device=permit.id,
                device_class=device.device_class,
                operations=permit.operations,
                bounds=_bounds(refs, (*where, "bounds", "between"), bounds),
            )
        )
    return permits


def _operations(refs: _Refs, place: Place, permit: PermitTable, device: DeviceTable) -> None:
    known = CLASS_OPERATIONS[device.device_class]
    if not permit.operations:
        refs.wrong(place, "names no operation")
    for operation in permit.operations:
        if operation not in known:
            refs.wrong(place, f"a {device.device_class} knows {', '.join(sorted(known))}, not {operation}")


def _bounds(refs: _Refs, place: Place, table: BoundsTable) -> Bounds:
    fields = _fields(table)
    if table.between is not None:
        fields["between"] = tuple(_minute(refs, place, text) for text in table.between)
    return Bounds(**fields)


def _minute(refs: _Refs, place: Place, text: str) -> int:
    try:
        moment = time.fromisoformat(text)
    except ValueError:
        refs.wrong(place, f"{text!r} is not a time of day like 18:30")
        return 0
    return moment.hour * 60 + moment.minute
