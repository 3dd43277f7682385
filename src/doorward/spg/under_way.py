"""A request under way: looked at again, recorded as passed on, and given its one result."""

import asyncio
from collections.abc import Sequence

import msgspec

from doorward.spg.desk import Desk, Entry
from doorward.spg.receiving import ended_now
from doorward.spg.rules import checks, controls
from doorward.spg.rules.page import RAW_NULL, Page
from doorward.wire.grants import DevicePermit
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Step
from doorward.wire.vocabulary import Operation, Scope


def recheck(desk: Desk, entry: Entry, devices: Sequence[str]) -> list[DevicePermit]:
    """Everything that may have changed since the request was taken; from memory, without a wait."""
    now_us = desk.clock.now_us()
    command, house = entry.command, desk.house
    if entry.cancelled:
        raise Refused(Reason.CANCELLED)
    if not desk.clock.trusted:
        raise Refused(Reason.CLOCK_UNTRUSTED)
    if now_us >= entry.request.act_by_us:
        raise Refused(Reason.DEADLINE_PASSED)
    held = house.live(command, now_us)
    checks.require_still_signed(command, held.document, house)
    until_us = controls.until_of(command, entry.request.start_us, desk.policy)
    if command.operation is not Operation.READ and now_us >= until_us:
        raise Refused(Reason.DEADLINE_PASSED, "the control would have ended already")
    start_us = max(now_us, entry.request.start_us)
    counted = 1 if entry.acting else 0
    permits = checks.usable_permits(command, held.document, house, start_us, until_us, counted)
    for device in devices:
        house.require_listed(device, command.service_point)
        if command.operation.is_control and device in house.overridden:
            raise Refused(Reason.CUSTOMER_OVERRIDE)
    return permits


def recheck_release(desk: Desk, entry: Entry) -> list[str]:
    """Letting go passes an override and the customer's bounds; not a cancelled or late request."""
    now_us = desk.clock.now_us()
    if entry.cancelled:
        raise Refused(Reason.CANCELLED)
    if now_us >= entry.request.act_by_us:
        raise Refused(Reason.DEADLINE_PASSED)
    if entry.command.scope is Scope.DEVICE:
        return [entry.command.device]
    return [c.device for c in desk.house.controls.values() if c.service_point == entry.command.service_point]


async def passed_to_han(desk: Desk, entry: Entry) -> None:
    """S1.07: recorded, once for a request, before anything is asked of a device."""
    if entry.passing is None:
        page = desk.page()
        page.step(entry.command, Step.PASSED_TO_HAN, page.now_us)
        entry.passing = desk.spawn(desk.commit(page))
    await asyncio.shield(entry.passing)


async def finish(
    desk: Desk,
    entry: Entry,
    state: str,
    *,
    reason: Reason | None = None,
    detail: str = "",
    data: msgspec.Raw = RAW_NULL,
    page: Page | None = None,
) -> None:
    """S1.11, S2.12: the result is stored and recorded; then it goes up until it is acknowledged.

    What was cancelled before a device was told is cancelled, also when its answer comes at the same moment.
    """
    page = page or desk.page()
    if entry.cancelled and not entry.acting:
        state, reason, detail, data = "CANCELLED", Reason.CANCELLED, "", RAW_NULL
    if entry.request.id in desk.opened:
        entry.ending = True
        page.finish(entry.command, state, page.now_us, reason=reason, detail=detail, data=data)
        if state not in ("DONE", "FAILED"):
            desk.settle_smaller(page, entry.command)
    await desk.commit_surely(page)
    if entry.cancelled and entry.acting:
        await _let_go(desk, entry)


async def _let_go(desk: Desk, entry: Entry) -> None:
    """It was cancelled while its result was being stored: what runs by now ends."""
    running = [c for c in desk.house.controls.values() if c.id == entry.request.id and not c.reason]
    if running:
        page = desk.page()
        page.controls = [ended_now(control, page.now_us, Reason.CANCELLED) for control in running]
        await desk.commit_surely(page)
