"""May it: the customer's permission, asked when a request comes in and again when its answer goes out."""

from collections.abc import Mapping, Sequence

import msgspec

from doorward.ccs.rules.asking import Draft
from doorward.ccs.rules.facts import Device, Grant, Place, Request
from doorward.ccs.rules.identity import Caller, require_scope
from doorward.wire.grants import DevicePermit, GrantDocument
from doorward.wire.permission import permits_of, require_running, require_within
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signed_command import (
    needs_signature,
    require_in_time,
    require_present,
    require_signed,
    require_version,
)
from doorward.wire.vocabulary import Operation, Scope

SIGNED_AHEAD_US_MAX = 30_000_000
"""How far ahead of ours the clock of one who signs may be."""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A request that the customer allows: who, where, under which grant, with which permits."""

    caller: Caller
    draft: Draft
    place: Place
    grant: Grant
    permits: Sequence[DevicePermit]


def service_point_of(draft: Draft, devices: Mapping[str, Device]) -> str:
    """Return the service point that a request is for, or ``""`` when its device is not there."""
    ask = draft.ask
    if ask.scope is not Scope.DEVICE:
        return ask.service_point
    device = devices.get(ask.device)
    if device is None or ask.service_point not in ("", device.service_point):
        return ""
    return device.service_point


def authorise(caller: Caller, draft: Draft, place: Place | None, grant: Grant | None, now_us: int) -> Granted:
    """Return the grant that covers a request (S1.03, S2.04), or raise :class:`Refused`.

    A device without a grant and one that does not exist look exactly the same (``device-unknown``).
    """
    ask = draft.ask
    require_scope(caller, "control" if ask.operation.is_control else "monitor")
    unknown = Refused(
        Reason.DEVICE_UNKNOWN, field="/device" if ask.scope is Scope.DEVICE else "/service_point"
    )
    if place is None or grant is None:
        raise unknown
    try:
        permits = permits_of(grant.document, ask.scope, ask.device, ask.operation)
    except Refused as refusal:
        raise unknown if refusal.reason is Reason.DEVICE_UNKNOWN else refusal from None
    if ask.operation is not Operation.RELEASE:
        _require_live(place, grant, now_us)
        if ask.operation.is_control and place.protected:
            raise Refused(Reason.CUSTOMER_PROTECTED)
        start_us = draft.start_us or now_us
        for permit in permits if ask.scope is Scope.DEVICE else ():
            require_within(
                permit.bounds, ask.operation, draft.body, start_us, draft.until_us, grant.document.timezone
            )
    _require_signature(draft, place, caller, grant.document, now_us)
    return Granted(caller=caller, draft=draft, place=place, grant=grant, permits=permits)


def _require_signature(
    draft: Draft, place: Place, caller: Caller, document: GrantDocument, now_us: int
) -> None:
    """X03: what the gateway would refuse for its signature is refused at the door already, with the reason."""
    ask = draft.ask
    if not needs_signature(ask.operation):
        return
    if document.signature_required or document.utility:
        require_present(ask.signature)
    if not ask.signature or document.utility:
        return
    asked = {
        "id": draft.key,
        "party": caller.party.id,
        "service_point": place.service_point,
        "scope": ask.scope,
        "device": ask.device,
        "operation": ask.operation,
        "start_us": draft.start_us,
        "until_us": draft.until_us,
    }
    signed = require_signed(ask.signature, document.party_keys, asked, bytes(ask.body))
    require_version(signed, document.version)
    require_in_time(signed, now_us, skew_us=SIGNED_AHEAD_US_MAX)


def _require_live(place: Place, grant: Grant, now_us: int) -> None:
    if place.service != "on":
        raise Refused(Reason.SERVICE_OFF)
    if grant.state != "live":
        raise Refused(Reason.ACCESS_DISABLED)
    require_running(grant.document, now_us)


def authorise_answer(request: Request, place: Place | None, grant: Grant | None, now_us: int) -> None:
    """Raise :class:`Refused` unless the answer to ``request`` may leave **now** (S1.13, S2.14)."""
    if place is None or grant is None:
        raise Refused(Reason.ACCESS_DISABLED)
    _require_live(place, grant, now_us)
    needed = Operation.READ if request.operation is Operation.READ else request.operation
    permits_of(grant.document, request.scope, request.device, needed)


def authorise_notice(device: str, place: Place | None, grant: Grant | None, now_us: int) -> None:
    """Raise :class:`Refused` unless what a device says by itself may go to the grant's third party now."""
    if place is None or grant is None:
        raise Refused(Reason.ACCESS_DISABLED)
    _require_live(place, grant, now_us)
    permits_of(grant.document, Scope.DEVICE, device, Operation.READ)
