"""Every check of a command at the gateway, in the order in which they are made.

The CCS has made most of them already. They are made again here because the CCS may be wrong, stale,
or in other hands.
"""

from collections.abc import Mapping, Sequence

import msgspec

from doorward.spg.rules.facts import Charge, Policy
from doorward.spg.rules.house import House
from doorward.spg.rules.limits import require_room
from doorward.wire.codec import depth_within
from doorward.wire.grants import Bounds, DevicePermit, GrantDocument, SignedCommand
from doorward.wire.messages import Command
from doorward.wire.permission import permits_of, require_running, require_within
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import verify
from doorward.wire.vocabulary import Operation, Scope

UNAUTHORISED = frozenset(
    {
        Reason.ACCESS_DISABLED,
        Reason.ACCESS_ENDED,
        Reason.LEASE_ENDED,
        Reason.DEVICE_UNKNOWN,
        Reason.DEVICE_UNLISTED,
        Reason.OPERATION_NOT_PERMITTED,
        Reason.SIGNATURE_INVALID,
        Reason.FORGED,
        Reason.REPLAYED,
    }
)
"""Refusals that count as unauthorised attempts (F25)."""

SERVICE_POINT_OPERATIONS = frozenset({Operation.READ, Operation.LIMIT, Operation.RELEASE})
_COUNTED_OUT = frozenset({Operation.READ, Operation.RELEASE})


def judge(
    command: Command,
    house: House,
    policy: Policy,
    *,
    trusted: bool,
    start_us: int,
    until_us: int,
    log: Sequence[Charge],
    now_us: int,
) -> list[DevicePermit]:
    """Return the permits under which ``command`` is carried out, or raise :class:`Refused`.

    ``trusted`` says whether the gateway's clock is; ``log`` holds the charges of the service point.
    Raises ``deadline-passed`` for one that comes too late.
    """
    if not trusted:
        raise Refused(Reason.CLOCK_UNTRUSTED)
    held = house.live(command, now_us)
    permits = usable_permits(command, held.document, house, start_us, until_us)
    if now_us >= command.act_before_us:
        raise Refused(Reason.DEADLINE_PASSED)
    _require_signature(command, held.document, house.born_us, policy, now_us)
    require_room(command, held.document, log, policy, now_us)
    return permits


def usable_permits(
    command: Command, document: GrantDocument, house: House, start_us: int, until_us: int, counted: int = 0
) -> list[DevicePermit]:
    """Return the permits of devices that are listed and inside the customer's bounds; raise if there is none.

    For a single device the first thing that is wrong is raised. A wider scope uses what it may.
    ``counted`` says how many of the day's acts on each device are this request's own.
    """
    body = body_of(command)
    if command.scope is Scope.SERVICE_POINT:
        if command.operation not in SERVICE_POINT_OPERATIONS:
            raise Refused(Reason.OPERATION_NOT_PERMITTED, field="/operation")
        body = {name: value for name, value in body.items() if name != "watts"}
    require_running(document, start_us)
    usable: list[DevicePermit] = []
    wrong: Refused | None = None
    for permit in _permits(command, document):
        try:
            _require_permitted(command, permit, body, document, house, start_us, until_us, counted)
        except Refused as refused:
            wrong = wrong or refused
        else:
            usable.append(permit)
    if wrong is not None and not usable:
        raise wrong
    return usable


def _permits(command: Command, document: GrantDocument) -> list[DevicePermit]:
    permits = permits_of(document, command.scope, command.device, command.operation)
    if command.scope is Scope.SERVICE_POINT and command.operation is Operation.LIMIT:
        # A limit of the whole is met by any control that the customer allowed, not by `limit` alone.
        return [permit for permit in document.devices if any(op.is_control for op in permit.operations)]
    return permits


def _require_permitted(
    command: Command,
    permit: DevicePermit,
    body: Mapping[str, object],
    document: GrantDocument,
    house: House,
    start_us: int,
    until_us: int,
    counted: int,
) -> None:
    listed = house.require_listed(permit.device, command.service_point)
    if command.scope is not Scope.SERVICE_POINT and command.operation not in house.capabilities.get(
        listed.id, frozenset()
    ):
        raise Refused(Reason.DEVICE_REFUSED, f"this device cannot {command.operation}", field="/operation")
    if command.operation in _COUNTED_OUT:
        return
    require_within(permit.bounds, command.operation, body, start_us, until_us, document.timezone)
    require_turn(permit.bounds, house.acts_within_a_day(command.party, permit.device, start_us) - counted)


def require_turn(bounds: Bounds, acts: int) -> None:
    """Raise ``outside-customer-limits`` when the device had as many controls today as the customer allows."""
    if bounds.times_per_day is not None and acts >= bounds.times_per_day:
        raise Refused(
            Reason.OUTSIDE_CUSTOMER_LIMITS,
            f"the customer allows {bounds.times_per_day} controls of this device in 24 h",
        )


def body_of(command: Command) -> dict[str, object]:
    """Return the command's body; raise ``body-malformed`` unless it is a shallow JSON object."""
    try:
        body = msgspec.json.decode(command.body) if depth_within(command.body) else None
    except msgspec.DecodeError as error:
        raise Refused(Reason.BODY_MALFORMED, f"body: {error}", field="/body") from None
    if not isinstance(body, dict):
        raise Refused(Reason.BODY_MALFORMED, "the body is not an object", field="/body")
    return body


def _require_signature(
    command: Command, document: GrantDocument, born_us: int, policy: Policy, now_us: int
) -> None:
    if not command.operation.is_control:
        return
    if not command.signature:
        if document.signature_required and command.operation is not Operation.RELEASE:
            raise Refused(
                Reason.SIGNATURE_INVALID, "the customer's permission asks for the service's signature"
            )
        return
    payload = verify(command.signature, document.party_keys, "command")
    try:
        signed = msgspec.json.decode(payload, type=SignedCommand)
        same_body = msgspec.json.decode(signed.body) == msgspec.json.decode(command.body)
    except msgspec.DecodeError as error:
        raise Refused(Reason.SIGNATURE_INVALID, f"signed command: {error}") from None
    differing = [name for name in _SIGNED if getattr(signed, _SIGNED[name]) != getattr(command, name)]
    if not same_body:
        differing.append("body")
    if differing:
        raise Refused(Reason.SIGNATURE_INVALID, f"the signature is for another {', '.join(differing)}")
    if signed.issued_us < born_us:
        raise Refused(Reason.SIGNATURE_INVALID, "signed before this gateway's store began")
    if signed.issued_us > now_us + policy.issued_skew_us or now_us >= signed.expires_us:
        raise Refused(Reason.SIGNATURE_INVALID, "the signature is not valid at this time")


_SIGNED = {
    "party_ref": "id",
    "party": "party",
    "service_point": "service_point",
    "scope": "scope",
    "device": "device",
    "operation": "operation",
    "start_us": "start_us",
    "until_us": "until_us",
    "grant_version": "grant_version",
}
"""Field of the command → field of what the third party signed; the body is compared as JSON."""
