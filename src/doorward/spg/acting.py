"""Carrying requests out: read, or hold the device, re-check, store the intent, tell it, and read back.

What the device was told is decided by reading back, never assumed. What was begun and not
proved is ``UNCONFIRMED``, and is not done again.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from doorward.spg.answers import is_on, raw, reading_data, require_sound, wanted_of
from doorward.spg.desk import Desk, Entry
from doorward.spg.letting_go import LettingGo
from doorward.spg.ports import DeviceFault, HanCommand, Reading, TimedOut
from doorward.spg.receiving import ended_now, state_of
from doorward.spg.rules import checks, controls, history, plan, recovery
from doorward.spg.rules.facts import Control, Intent, Sample
from doorward.spg.rules.page import RAW_NULL, Page
from doorward.wire.grants import Bounds, DevicePermit
from doorward.wire.messages import Command, ProvisionedDevice
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Outcome, Step
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import DeviceClass, Operation, Scope

RECOVER_TRIES_MAX = 12
RECOVER_PAUSE_S = 5.0


class Later(Exception):
    """A device must rest first; the request goes on at ``at_us``."""

    def __init__(self, at_us: int) -> None:
        super().__init__(str(at_us))
        self.at_us = at_us


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one device did not do its part."""

    device: str
    reason: Reason
    detail: str

    def data(self) -> dict[str, object]:
        """Return it as JSON."""
        return {"device": self.device, "reason": self.reason.value, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One device, ready to be told: what was before, what it is told, and the control that then runs."""

    device: ProvisionedDevice
    before: Reading
    target: HanCommand
    held_before: bool
    running: Control | None
    control: Control

    def intent(self, at_us: int) -> Intent:
        """Return the intent that is stored before the device is told."""
        return Intent(
            id=self.control.id,
            device=self.device.id,
            operation=self.target.operation,
            body=self.target.body,
            baseline=self.control.baseline,
            until_us=self.target.until_us,
            before=reading_data(self.before),
            held_before=self.held_before,
            at_us=at_us,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Did:
    """What came of an act."""

    act: Act
    state: str
    reading: Reading | None = None
    reason: Reason | None = None
    detail: str = ""
    at_us: int = 0


class Acting:
    """Does what was taken."""

    def __init__(self, desk: Desk, letting_go: LettingGo) -> None:
        self.desk = desk
        self.letting_go = letting_go

    def begin(self, entry: Entry) -> None:
        """Carry out a request now, or at its time."""
        self.desk.opened[entry.request.id] = entry
        if entry.request.start_us > self.desk.clock.now_us():
            self.desk.armed[entry.request.id] = entry.request.start_us
            self.desk.poke()
        else:
            self.desk.spawn(self.carry_out(entry))

    async def carry_out(self, entry: Entry) -> None:
        """Carry out a request; whatever happens, it gets its one result."""
        self.desk.armed.pop(entry.request.id, None)
        try:
            if entry.command.operation is Operation.READ:
                await self._read(entry)
            elif entry.command.operation is Operation.RELEASE:
                await self._release(entry)
            else:
                await self._control(entry)
        except Later as later:
            self._wait(entry, later.at_us)
        except Refused as refused:
            await self._finish(entry, state_of(refused), reason=refused.reason, detail=refused.detail)
        except DeviceFault as fault:
            await self._finish(entry, "FAILED", reason=fault.reason, detail=fault.detail)
        except Exception as error:
            state = "UNCONFIRMED" if entry.acting else "FAILED"
            await self._finish(
                entry, state, reason=Reason.SYSTEM_FAILURE, detail=f"gateway: {type(error).__name__}"
            )
            raise

    def _wait(self, entry: Entry, at_us: int) -> None:
        self.desk.armed[entry.request.id] = at_us
        self.desk.poke()

    async def _finish(
        self,
        entry: Entry,
        state: str,
        *,
        reason: Reason | None = None,
        detail: str = "",
        data: msgspec.Raw = RAW_NULL,
        page: Page | None = None,
    ) -> None:
        """S1.11, S2.12: the result is stored and recorded; then it goes up until it is acknowledged."""
        page = page or self.desk.page()
        if entry.request.id in self.desk.opened:
            page.finish(entry.command, state, page.now_us, reason=reason, detail=detail, data=data)
            if state not in ("DONE", "FAILED"):
                self.desk.settle_smaller(page, entry.command)
        await self.desk.commit_surely(page)

    def recheck(self, entry: Entry, devices: Sequence[str]) -> list[DevicePermit]:
        """Everything that may have changed since the request was taken; from memory, without a wait."""
        now_us = self.desk.clock.now_us()
        command, house = entry.command, self.desk.house
        if entry.cancelled:
            raise Refused(Reason.CANCELLED)
        if not self.desk.clock.trusted:
            raise Refused(Reason.CLOCK_UNTRUSTED)
        if now_us >= entry.request.act_by_us:
            raise Refused(Reason.DEADLINE_PASSED)
        held = house.live(command, now_us)
        until_us = controls.until_of(command, entry.request.start_us, self.desk.policy)
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

    # --- monitoring (scenario 1) ---------------------------------------------------------------------

    async def _read(self, entry: Entry) -> None:
        body = checks.body_of(entry.command)
        permits = self.recheck(entry, [])
        interval = history.interval_of(body)
        if interval is not None:
            return await self._past(entry, permits, *interval)
        answers = await asyncio.gather(*(self._read_one(entry, permit.device) for permit in permits))
        page = self.desk.page()
        readings = [answer for answer in answers if isinstance(answer, Reading)]
        failures = [answer for answer in answers if isinstance(answer, Failure)]
        if not readings:
            first = failures[0]
            return await self._finish(entry, "FAILED", reason=first.reason, detail=first.detail, page=page)
        page.step(entry.command, Step.DEVICE_ANSWERED, max(reading.at_us for reading in readings))
        page.step(entry.command, Step.ANSWER_RECEIVED, page.now_us)
        wanted = wanted_of(body)
        if entry.command.scope is Scope.DEVICE:
            data = reading_data(readings[0], wanted)
        else:
            data = {
                "service_point": entry.command.service_point,
                "readings": [reading_data(reading, wanted) for reading in readings],
                "failed": [failure.data() for failure in failures],
                "total_power_w": total_power_w(readings, self.desk.house.devices),
            }
        return await self._finish(entry, "DONE", data=raw(data), page=page)

    async def _read_one(self, entry: Entry, device_id: str) -> Reading | Failure:
        """Read one device; one that fails is a failure of its own and disturbs no other."""
        try:
            async with self.desk.hands.hold([device_id], entry.command.klass):
                self.recheck(entry, [device_id])
                await self._passed_to_han(entry)
                self.recheck(entry, [device_id])
                return await self.read_held(
                    self.desk.house.require_listed(device_id, entry.command.service_point)
                )
        except DeviceFault as fault:
            return Failure(device_id, fault.reason, fault.detail)
        except Refused as refused:
            if entry.command.scope is Scope.DEVICE:
                raise
            return Failure(device_id, refused.reason, refused.detail)

    async def _passed_to_han(self, entry: Entry) -> None:
        """S1.07: recorded, once for a request, before anything is asked of a device."""
        if entry.passing is None:
            page = self.desk.page()
            page.step(entry.command, Step.PASSED_TO_HAN, page.now_us)
            entry.passing = self.desk.spawn(self.desk.commit(page))
        await asyncio.shield(entry.passing)

    async def read_held(self, device: ProvisionedDevice) -> Reading:
        """Read a device whose lock the caller holds, and learn from what it says."""
        reading = replace(await self.desk.hands.read(device), at_us=self.desk.clock.now_us())
        require_sound(reading, device.id)
        self.learn(reading)
        return reading

    def learn(self, reading: Reading) -> None:
        """A resident's override, and whether the device rests, are seen in every reading."""
        self.desk.house.seen(reading.device, is_on(reading), reading.at_us)
        self.letting_go.overridden(reading.device, reading.overridden)

    async def _past(self, entry: Entry, permits: list[DevicePermit], begin_us: int, end_us: int) -> None:
        """A past interval from the gateway's own samples; nothing is asked of the devices."""
        step_us = history.step_of(begin_us, end_us, len(permits), self.desk.policy.sample_us)
        page = self.desk.page()
        page.step(
            entry.command, Step.PASSED_TO_HAN, page.now_us, detail="answered from the gateway's own samples"
        )
        await self.desk.commit(page)
        readings: list[dict[str, object]] = []
        for permit in permits:
            samples = await self._samples(permit.device, begin_us, end_us)
            readings += [
                {"device": permit.device, **point} for point in history.series(samples, begin_us, step_us)
            ]
        page = self.desk.page()
        page.step(entry.command, Step.ANSWER_RECEIVED, page.now_us)
        data = {
            "service_point": entry.command.service_point,
            "from": to_rfc3339(begin_us),
            "to": to_rfc3339(end_us),
            "interval_s": step_us / 1_000_000,
            "readings": readings,
        }
        await self._finish(entry, "DONE", data=raw(data), page=page)

    async def _samples(self, device: str, begin_us: int, end_us: int) -> list[Sample]:
        return await self.desk.store.read(lambda books: books.samples(device, begin_us, end_us))

    # --- control (scenario 2) ------------------------------------------------------------------------

    async def _control(self, entry: Entry) -> None:
        command = entry.command
        permits = {permit.device: permit.bounds for permit in self.recheck(entry, [])}
        async with self.desk.hands.hold(self._to_hold(command, permits), command.klass):
            self.recheck(entry, [])
            acts, failures, total_w = await self._prepare(entry, permits)
            if not acts:
                raise DeviceFault(failures[0].reason, failures[0].detail)
            dids = await self._tell(entry, acts)
            page = self.desk.page()
            if command.scope is Scope.SERVICE_POINT:
                await self._judge_limit(entry, dids, total_w, page)
            else:
                await self._judge(entry, dids, failures, page)

    def _to_hold(self, command: Command, permits: dict[str, Bounds]) -> list[str]:
        """The devices of the request; for a limit of the whole, all of the service point."""
        if command.scope is not Scope.SERVICE_POINT:
            return list(permits)
        return [d.id for d in self.desk.house.devices.values() if d.service_point == command.service_point]

    async def _prepare(
        self, entry: Entry, permits: dict[str, Bounds]
    ) -> tuple[list[Act], list[Failure], float]:
        """Read what is, and make ready what each device will be told."""
        command = entry.command
        before, failures = await self._read_all(self._to_hold(command, permits))
        total_w = 0.0
        steps: list[tuple[str, Operation, dict[str, object]]]
        if command.scope is Scope.SERVICE_POINT:
            total_w = self._total_w(command, before, failures)
            steps = [(s.device, s.operation, s.body) for s in self._plan(command, permits, before, total_w)]
        else:
            body = checks.body_of(command)
            steps = [(device, command.operation, body) for device in before]
        answers = await asyncio.gather(
            *(
                self._ready(entry, before[device], operation, body, permits[device])
                for device, operation, body in steps
            )
        )
        acts = [answer for answer in answers if isinstance(answer, Act)]
        if command.scope is not Scope.HOME:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        failures += [
            _failure(step[0], answer)
            for step, answer in zip(steps, answers, strict=True)
            if isinstance(answer, Exception)
        ]
        return acts, failures, total_w

    async def _read_all(self, devices: Sequence[str]) -> tuple[dict[str, Reading], list[Failure]]:
        """Read devices that are held, side by side."""
        listed = [self.desk.house.devices[device] for device in devices if device in self.desk.house.devices]
        answers = await asyncio.gather(*(self.read_held(device) for device in listed), return_exceptions=True)
        before: dict[str, Reading] = {}
        failures: list[Failure] = []
        for device, answer in zip(listed, answers, strict=True):
            if isinstance(answer, Reading):
                before[device.id] = answer
            elif isinstance(answer, DeviceFault):
                failures.append(Failure(device.id, answer.reason, answer.detail))
            else:
                raise answer
        return before, failures

    async def _ready(
        self, entry: Entry, before: Reading, operation: Operation, body: dict[str, object], bounds: Bounds
    ) -> Act | Exception:
        """Who owns the device, what was before the first control, and whether it holds the target already."""
        try:
            return await self._ready_act(entry, before, operation, body, bounds)
        except (Refused, DeviceFault, Later) as no:
            return no

    async def _ready_act(
        self, entry: Entry, before: Reading, operation: Operation, body: dict[str, object], bounds: Bounds
    ) -> Act:
        command, house = entry.command, self.desk.house
        device = house.require_listed(before.device, command.service_point)
        now_us = self.desk.clock.now_us()
        if device.id in house.overridden:
            raise Refused(Reason.CUSTOMER_OVERRIDE)
        running = house.controls.get(device.id)
        controls.require_free(running, command)
        if operation is Operation.TURN_ON:
            self._require_rested(entry, device, now_us)
        baseline = running.baseline if running is not None else await self.desk.hands.snapshot(device)
        until_us = controls.until_of(command, max(entry.request.start_us, now_us), self.desk.policy)
        ends_us = until_us + self.desk.draw(
            controls.end_room_us(now_us, until_us, bounds.hours_max, self.desk.policy)
        )
        target = HanCommand(
            operation=operation, body=body, until_us=ends_us, baseline=baseline, id=command.id
        )
        return Act(
            device=device,
            before=before,
            target=target,
            held_before=await self.desk.hands.follows(device, target),
            running=running,
            control=Control(
                device=device.id,
                id=command.id,
                party=command.party,
                service_point=command.service_point,
                grant=command.grant,
                klass=command.klass,
                operation=operation,
                body=body,
                baseline=baseline,
                started_us=now_us,
                until_us=until_us,
                ends_us=ends_us,
            ),
        )

    def _require_rested(self, entry: Entry, device: ProvisionedDevice, now_us: int) -> None:
        """A compressor that was just turned off is not turned on again before it has rested."""
        rested_us = self.desk.house.rested_us(device, self.desk.policy)
        if now_us >= rested_us:
            return
        if entry.command.scope is Scope.DEVICE and rested_us < entry.request.act_by_us:
            raise Later(rested_us)
        raise Refused(
            Reason.DEVICE_REFUSED,
            f"the device was just turned off and must rest until {to_rfc3339(rested_us)}",
        )

    async def _tell(self, entry: Entry, acts: list[Act]) -> list[Did]:
        """The intent is durable; then the last look from memory, and with no wait in between, the device."""
        entry.acting = True
        page = self.desk.page()
        page.intents = [act.intent(page.now_us) for act in acts]
        page.acted = [(entry.command.party, act.device.id, page.now_us) for act in acts]
        page.controls = [act.control for act in acts]
        for act in acts:
            page.step(
                entry.command, Step.PASSED_TO_HAN, page.now_us, device=act.device.id, tell=act is acts[0]
            )
        try:
            await self.desk.commit(page)
        except Exception:
            entry.acting = False  # nothing was told, and nothing will be
            raise
        try:
            self.recheck(entry, [act.device.id for act in acts])
        except Refused as refused:
            await self._not_told(entry, acts, refused)
            raise
        return list(await asyncio.gather(*(self._tell_one(act) for act in acts)))

    async def _not_told(self, entry: Entry, acts: list[Act], refused: Refused) -> None:
        """Something changed at the last moment: nothing was told, and what ran before goes on."""
        page = self.desk.page()
        _put_back(acts, self.desk.house.overridden, page)
        await self._finish(entry, state_of(refused), reason=refused.reason, detail=refused.detail, page=page)

    async def _tell_one(self, act: Act) -> Did:
        try:
            acted = await self.desk.hands.command(act.device, act.target)
            reading = replace(acted.reading, at_us=self.desk.clock.now_us())
            require_sound(reading, act.device.id)
        except TimedOut as late:
            return await self._look(act, late)
        except DeviceFault as fault:
            return Did(
                act=act,
                state="FAILED",
                reason=fault.reason,
                detail=fault.detail,
                at_us=self.desk.clock.now_us(),
            )
        self.desk.house.seen(reading.device, is_on(reading), reading.at_us)
        if acted.followed:
            return Did(act=act, state="DONE", reading=reading, at_us=reading.at_us)
        reason = (
            Reason.CUSTOMER_OVERRIDE if reading.overridden else acted.reason or Reason.DEVICE_NOT_FOLLOWING
        )
        return Did(
            act=act, state="FAILED", reading=reading, reason=reason, detail=acted.detail, at_us=reading.at_us
        )

    async def _look(self, act: Act, late: TimedOut) -> Did:
        """The device did not answer in time: only what it holds now can prove that it acted."""
        try:
            holds: bool | None = await self.desk.hands.follows(act.device, act.target)
        except DeviceFault:
            holds = None
        state = recovery.verdict(act.held_before, holds)
        return Did(
            act=act,
            state=state,
            reason=None if state == "DONE" else Reason.NO_PROOF,
            detail=late.detail,
            at_us=self.desk.clock.now_us(),
        )

    async def _judge(self, entry: Entry, dids: list[Did], failures: list[Failure], page: Page) -> None:
        """S2.10–12: what was read back decides, per device."""
        command = entry.command
        for did in dids:
            self._note_did(entry, did, page)
        page.step(command, Step.ANSWER_RECEIVED, page.now_us)
        if command.scope is Scope.DEVICE:
            did = dids[0]
            data = raw(self._did_data(did))
            return await self._finish(
                entry, did.state, reason=did.reason, detail=did.detail, data=data, page=page
            )
        failures = failures + [
            Failure(did.act.device.id, did.reason or Reason.NO_PROOF, did.detail)
            for did in dids
            if did.state != "DONE"
        ]
        state = _best([did.state for did in dids])
        data = raw(
            {
                "service_point": command.service_point,
                "readings": [self._did_data(did) for did in dids if did.state == "DONE"],
                "failed": [failure.data() for failure in failures],
            }
        )
        first = failures[0] if failures and state != "DONE" else None
        return await self._finish(
            entry,
            state,
            reason=first.reason if first else None,
            detail=first.detail if first else "",
            data=data,
            page=page,
        )

    async def _judge_limit(self, entry: Entry, dids: list[Did], before_w: float, page: Page) -> None:
        """S2.09b: the limit is met when the total that is read back says so; otherwise all is undone."""
        command = entry.command
        limit_w = _watts(command)
        after, failures = await self._read_all(self._to_hold(command, {}))
        after_w = self._total_w(command, after, failures)
        met = all(did.state == "DONE" for did in dids) and plan.is_met(limit_w, after_w)
        for did in dids:
            self._note_did(entry, did, page)
            if not met and did.state == "DONE":
                page.controls = [c for c in page.controls if c.device != did.act.device.id]
                page.controls.append(ended_now(did.act.control, page.now_us, Reason.DEVICE_NOT_FOLLOWING))
        page.step(command, Step.ANSWER_RECEIVED, page.now_us)
        data = {
            "service_point": command.service_point,
            "limit_w": limit_w,
            "total_before_w": before_w,
            "total_after_w": after_w,
            "readings": [self._did_data(did) for did in dids],
            "failed": [failure.data() for failure in failures],
        }
        if met:
            return await self._finish(entry, "DONE", data=raw(data), page=page)
        worst = next((did for did in dids if did.state != "DONE"), None)
        reason = worst.reason if worst else Reason.DEVICE_NOT_FOLLOWING
        detail = worst.detail if worst else f"{after_w:.0f} W were read back, not {limit_w:.0f} W"
        state = "UNCONFIRMED" if worst is not None and worst.state == "UNCONFIRMED" else "FAILED"
        return await self._finish(entry, state, reason=reason, detail=detail, data=raw(data), page=page)

    def _note_did(self, entry: Entry, did: Did, page: Page) -> None:
        """What an outcome means for the device's control: it runs, is in doubt, or is no more."""
        command, act = entry.command, did.act
        page.step(
            command,
            Step.DEVICE_ANSWERED,
            did.at_us or page.now_us,
            outcome=Outcome.OK if did.state == "DONE" else Outcome.FAILED,
            reason=did.reason,
            detail=did.detail,
            device=act.device.id,
            tell=did.reading is not None,
        )
        if did.state == "DONE":
            self._runs(entry, act, page)
        elif did.reason is Reason.CUSTOMER_OVERRIDE:
            page.dropped.append(act.device.id)
        elif did.state == "UNCONFIRMED":
            page.controls.append(replace(act.control, uncertain=True))
        elif act.running is not None and act.running.party == command.party:
            page.controls.append(replace(act.running, uncertain=True))
        else:
            page.controls.append(
                replace(
                    ended_now(act.control, page.now_us, did.reason or Reason.DEVICE_NOT_FOLLOWING),
                    uncertain=True,
                )
            )

    def _runs(self, entry: Entry, act: Act, page: Page) -> None:
        if act.target.operation is Operation.TURN_OFF:
            self.desk.house.turned_off(act.device.id, page.now_us)
        if act.running is not None and act.running.party != entry.command.party:
            page.receipt(
                act.running.id,
                Step.RELEASED,
                page.now_us,
                reason=Reason.SUPERSEDED,
                detail="a more urgent control",
            )
        if entry.cancelled:
            page.controls.append(ended_now(act.control, page.now_us, Reason.CANCELLED))

    def _did_data(self, did: Did) -> dict[str, object]:
        """The reading after, and beside it the one before and the times that were drawn."""
        act = did.act
        after = reading_data(did.reading) if did.reading is not None else {"device": act.device.id}
        return after | {
            "operation": act.target.operation.value,
            "told": act.target.body,
            "before": reading_data(act.before),
            "started": to_rfc3339(act.control.started_us),
            "until": to_rfc3339(act.control.until_us),
            "ends": to_rfc3339(act.control.ends_us),
        }

    # --- a limit of the whole service point (S2.09b) ---------------------------------------------------

    def _plan(
        self, command: Command, permits: dict[str, Bounds], before: dict[str, Reading], total_w: float
    ) -> list[plan.Step]:
        house = self.desk.house
        held = house.live(command, self.desk.clock.now_us())
        candidates = []
        for device_id, reading in before.items():
            permit = held.document.permit(device_id)
            running = house.controls.get(device_id)
            foreign = (
                running is not None and running.party != command.party and command.klass >= running.klass
            )
            if permit is None or device_id not in permits or foreign or device_id in house.overridden:
                continue
            listed = house.devices[device_id]
            candidates.append(
                plan.Candidate(
                    device=device_id,
                    device_class=listed.device_class,
                    power_w=max(0.0, reading.power_w),
                    rated_w=listed.rated_w,
                    operations=frozenset(permit.operations) & house.capabilities.get(device_id, frozenset()),
                    bounds=permit.bounds,
                )
            )
        return plan.spread(_watts(command), total_w, candidates)

    def _total_w(self, command: Command, readings: dict[str, Reading], failures: list[Failure]) -> float:
        """The meter's word where there is a meter; else the sum, a silent device counting as if it ran."""
        devices = self.desk.house.devices
        total_w = total_power_w(list(readings.values()), devices)
        if any(devices[name].device_class is DeviceClass.METER for name in readings):
            return total_w
        silent = [devices[f.device] for f in failures if f.device in devices]
        return total_w + sum(d.rated_w for d in silent if d.device_class is not DeviceClass.METER)

    # --- letting go by request -------------------------------------------------------------------------

    async def _release(self, entry: Entry) -> None:
        """The service lets go of what it set. It needs no room in any limit of the home."""
        command, house = entry.command, self.desk.house
        permits = self.recheck_release(entry)
        own = [
            c
            for device in permits
            if (c := house.controls.get(device)) is not None and c.party == command.party
        ]
        if not own:
            detail = "no control of this service runs here"
            return await self._finish(entry, "DONE", detail=detail, data=raw({"released": []}))
        await self._passed_to_han(entry)
        answers = await asyncio.gather(*(self.letting_go.let_go(control, command) for control in own))
        page = self.desk.page()
        released = [control.device for control, fault in zip(own, answers, strict=True) if fault is None]
        failures = [
            Failure(control.device, fault.reason, fault.detail)
            for control, fault in zip(own, answers, strict=True)
            if fault is not None
        ]
        page.step(command, Step.ANSWER_RECEIVED, page.now_us)
        data = raw({"released": released, "failed": [failure.data() for failure in failures]})
        if released:
            return await self._finish(entry, "DONE", data=data, page=page)
        first = failures[0]
        return await self._finish(
            entry, "FAILED", reason=first.reason, detail=first.detail, data=data, page=page
        )

    def recheck_release(self, entry: Entry) -> list[str]:
        """Letting go passes an override and the customer's bounds; not a cancelled or late request."""
        now_us = self.desk.clock.now_us()
        if entry.cancelled:
            raise Refused(Reason.CANCELLED)
        if now_us >= entry.request.act_by_us:
            raise Refused(Reason.DEADLINE_PASSED)
        if entry.command.scope is Scope.DEVICE:
            return [entry.command.device]
        return [
            c.device
            for c in self.desk.house.controls.values()
            if c.service_point == entry.command.service_point
        ]

    # --- after a restart -------------------------------------------------------------------------------

    def resume(self, entry: Entry, intents: list[Intent]) -> None:
        """Go on with a request that the last run left without a result."""
        if intents:
            self.desk.spawn(self._recover(entry, intents))
        else:
            self.begin(entry)

    async def _recover(self, entry: Entry, intents: list[Intent]) -> None:
        """Something was about to be told when the gateway stopped. It is looked at, never told again."""
        verdicts = [await self._verdict(intent) for intent in intents]
        state = recovery.together(verdicts)
        page = self.desk.page()
        for intent, word in zip(intents, verdicts, strict=True):
            control = self.desk.house.controls.get(intent.device)
            if control is not None and control.id == intent.id:
                ending = ended_now(control, page.now_us, Reason.CANCELLED) if entry.cancelled else control
                page.controls.append(replace(ending, uncertain=word != "DONE"))
        page.step(
            entry.command, Step.ANSWER_RECEIVED, page.now_us, detail="found after a restart of the gateway"
        )
        await self._finish(
            entry,
            state,
            reason=None if state == "DONE" else Reason.NO_PROOF,
            detail="decided by reading the device after a restart of the gateway",
            data=raw({"before": [intent.before for intent in intents]}),
            page=page,
        )

    async def _verdict(self, intent: Intent) -> str:
        target = HanCommand(
            operation=intent.operation,
            body=intent.body,
            until_us=intent.until_us,
            baseline=intent.baseline,
            id=intent.id,
        )
        holds: bool | None = None
        for _ in range(RECOVER_TRIES_MAX):
            device = self.desk.house.devices.get(intent.device)
            if device is None:
                break
            try:
                async with self.desk.hands.hold([device.id], 0):
                    holds = await self.desk.hands.follows(device, target)
                break
            except DeviceFault:
                await asyncio.sleep(RECOVER_PAUSE_S)
        return recovery.verdict(intent.held_before, holds)


def total_power_w(readings: Sequence[Reading], devices: dict[str, ProvisionedDevice]) -> float:
    """Return the meters' power where any was read, else the sum of the devices."""
    meters = [
        r for r in readings if r.device in devices and devices[r.device].device_class is DeviceClass.METER
    ]
    return round(sum(reading.power_w for reading in meters or readings), 1)


def _put_back(acts: list[Act], overridden: Collection[str], page: Page) -> None:
    """What ran before goes on, but where somebody at home has ended it."""
    for act in acts:
        if act.running is not None and act.device.id not in overridden:
            page.controls.append(act.running)
        else:
            page.dropped.append(act.device.id)


def _failure(device: str, error: Exception) -> Failure:
    if isinstance(error, Refused | DeviceFault):
        return Failure(device, error.reason, error.detail)
    return Failure(device, Reason.DEVICE_REFUSED, "the device must rest")


def _best(states: Collection[str]) -> str:
    return next((word for word in ("DONE", "UNCONFIRMED") if word in states), "FAILED")


def _watts(command: Command) -> float:
    watts = checks.body_of(command).get("watts")
    if not isinstance(watts, int | float) or isinstance(watts, bool):
        raise Refused(Reason.FORMAT_INVALID, "watts is missing or no number", field="/body/watts")
    return float(watts)
