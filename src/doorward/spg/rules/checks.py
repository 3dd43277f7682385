"""Every check of a command at the gateway, in the order in which they are made.

The CCS has made most of them already. They are made again here because the CCS may be wrong, stale,
or in other hands.
"""

from collections.abc import Mapping, Sequence

import msgspec

from doorward.spg.rules.facts import US, Charge, Policy
from doorward.spg.rules.house import House, binding_of
from doorward.spg.rules.limits import require_room
from doorward.wire.codec import depth_within
from doorward.wire.grants import Bounds, DevicePermit, GrantDocument, SignedCommand
from doorward.wire.messages import Command, ProvisionedDevice
from doorward.wire.permission import permits_of, require_running, require_within
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signed_command import (
    needs_signature,
    require_in_time,
    require_present,
    require_signed,
    require_version,
)
from doorward.wire.vocabulary import THIRD_PARTY_CLASS, Operation, Scope

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


def is_charged(command: Command) -> bool:
    """Whether the limits count a command: they are third parties' (N01), and letting go passes always."""
    return command.klass >= THIRD_PARTY_CLASS and command.operation is not Operation.RELEASE


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
) -> int:
    """Return before when ``command`` must be begun, if it may be at all; otherwise raise :class:`Refused`.

    ``trusted`` says whether the gateway's clock is; ``log`` holds the charges of the service point.
    Raises ``deadline-passed`` for one that comes too late.
    """
    if not trusted:
        raise Refused(Reason.CLOCK_UNTRUSTED)
    held = house.live(command, now_us)
    _require_class(command, held.document)
    usable_permits(command, held.document, house, start_us, until_us)
    if now_us >= command.act_before_us:
        raise Refused(Reason.DEADLINE_PASSED)
    signed_until_us = _signed_until(command, held.document, house, policy, now_us)
    if is_charged(command):
        require_room(command, held.document, log, policy, now_us)
    act_by_us = command.act_before_us
    if start_us > now_us:
        act_by_us = max(act_by_us, _start_by(command, start_us, policy))
    return act_by_us if signed_until_us is None else min(act_by_us, signed_until_us)


def _start_by(command: Command, start_us: int, policy: Policy) -> int:
    """Return before when a control that begins later must be begun: not long after its start, and not after
    the deadline that its third party was promised (``act_before_us`` is that less the draw and the margin)."""
    asked_us = command.act_before_us + max(0, command.spread_s) * US
    return min(start_us + policy.start_late_us_max, max(start_us, asked_us) + policy.start_margin_us)


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
    require_bound(permit, listed)
    if command.scope is not Scope.SERVICE_POINT and command.operation not in house.capabilities.get(
        listed.id, frozenset()
    ):
        raise Refused(Reason.DEVICE_REFUSED, f"this device cannot {command.operation}", field="/operation")
    if command.operation in _COUNTED_OUT:
        return
    require_within(permit.bounds, command.operation, body, start_us, until_us, document.timezone)
    require_turn(permit.bounds, house.acts_within_a_day(command.party, permit.device, start_us) - counted)


def require_bound(permit: DevicePermit, listed: ProvisionedDevice) -> None:
    """Raise ``device-unlisted`` when the gateway's list leads to other equipment than the customer allowed."""
    if permit.bound_to and permit.bound_to != binding_of(listed):
        raise Refused(
            Reason.DEVICE_UNLISTED,
            "the gateway's list leads to other equipment than the customer permitted",
            field="/device",
        )


def require_bound_all(permits: Sequence[DevicePermit], devices: Sequence[ProvisionedDevice]) -> None:
    """The same for devices that are about to be told, each as it is going to be reached."""
    by_device = {permit.device: permit for permit in permits}
    for device in devices:
        require_bound(by_device[device.id], device)


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


def _require_class(command: Command, document: GrantDocument) -> None:
    """The utility's classes are the utility's: nobody else's message may pass for one of them."""
    if command.klass < THIRD_PARTY_CLASS and not document.utility:
        raise Refused(Reason.FORGED, "a third party's message in a class of the utility")


def _signed_until(
    command: Command, document: GrantDocument, house: House, policy: Policy, now_us: int
) -> int | None:
    """Return until when a signed control may be acted on; ``None`` where a signature is not needed or there."""
    signed = _signed(command, document, house)
    if signed is None:
        return None
    require_version(signed, document.version)
    require_in_time(signed, now_us, skew_us=policy.issued_skew_us, born_us=house.born_us)
    return signed.expires_us


def _signed(command: Command, document: GrantDocument, house: House) -> SignedCommand | None:
    if not needs_signature(command.operation):
        return None
    if document.utility or document.signature_required:
        require_present(command.signature)
    if not command.signature:
        return None
    keys = house.operations_keys if document.utility else document.party_keys
    asked = {name: getattr(command, field) for name, field in _SIGNED.items()}
    signed = require_signed(command.signature, keys, asked, bytes(command.body))
    if signed.campaign and not command.campaign:
        raise Refused(Reason.SIGNATURE_INVALID, "signed as part of a campaign, which begins at random")
    return signed


def require_still_signed(command: Command, document: GrantDocument, house: House) -> None:
    """Raise ``signature-invalid`` when a newer permission no longer knows the key, or asks for a signature."""
    if document.version != command.grant_version or document.utility:
        _signed(command, document, house)


_SIGNED = {
    "id": "party_ref",
    "party": "party",
    "service_point": "service_point",
    "scope": "scope",
    "device": "device",
    "operation": "operation",
    "start_us": "start_us",
    "until_us": "until_us",
    "grant_version": "grant_version",
}
"""Field of what the third party signed → field of the command; the body is compared beside them."""
