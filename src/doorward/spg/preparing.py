"""Preparing a control: what is now, who owns each device, and what it will be told."""

import asyncio
from dataclasses import dataclass

from doorward.spg.answers import Failure, reading_data
from doorward.spg.desk import Desk, Entry
from doorward.spg.limiting import devices_at, spread, usage_w
from doorward.spg.monitoring import Monitoring
from doorward.spg.ports import DeviceFault, HanCommand, Reading
from doorward.spg.rules import checks, controls
from doorward.spg.rules.facts import Control, Intent
from doorward.spg.rules.house import binding_of
from doorward.wire.grants import Bounds
from doorward.wire.messages import Command, ProvisionedDevice
from doorward.wire.reasons import Reason, Refused
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import Operation, Scope


class Later(Exception):
    """A device must rest first; the request goes on at ``at_us``."""

    def __init__(self, at_us: int) -> None:
        super().__init__(str(at_us))
        self.at_us = at_us


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


class Preparing:
    """Makes acts ready. The caller holds the devices."""

    def __init__(self, desk: Desk, monitoring: Monitoring) -> None:
        self.desk = desk
        self.monitoring = monitoring

    def to_hold(self, command: Command, permits: dict[str, Bounds]) -> list[str]:
        """The devices of the request; for a limit of the whole, all of the service point."""
        if command.scope is not Scope.SERVICE_POINT:
            return list(permits)
        return devices_at(self.desk, command.service_point)

    async def prepare(
        self, entry: Entry, permits: dict[str, Bounds]
    ) -> tuple[list[Act], list[Failure], float]:
        """Read what is, and make ready what each device will be told."""
        command = entry.command
        before, failures = await self.monitoring.read_all(self.to_hold(command, permits))
        total_w = 0.0
        steps: list[tuple[str, Operation, dict[str, object]]]
        if command.scope is Scope.SERVICE_POINT:
            total_w = usage_w(self.desk, before, failures)
            steps = [
                (s.device, s.operation, s.body) for s in spread(self.desk, command, permits, before, total_w)
            ]
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
        ends_us = self._draw_end(command, bounds, now_us, until_us)
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
                instead_of=running.beneath() if running is not None else [],
                campaign=command.campaign
                or command.spread_s > 0
                or (running is not None and running.campaign),
                bound_to=binding_of(device),
            ),
        )

    def _draw_end(self, command: Command, bounds: Bounds, now_us: int, until_us: int) -> int:
        expires_us = self.desk.house.live(command, now_us).document.expires_us
        latest_us = controls.latest_end_us(now_us, bounds.hours_max, expires_us)
        earliest_us, latest_us = controls.end_window_us(now_us, until_us, latest_us, self.desk.policy)
        return earliest_us + self.desk.draw(latest_us - earliest_us)

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


def _failure(device: str, error: Exception) -> Failure:
    if isinstance(error, Refused | DeviceFault):
        return Failure(device, error.reason, error.detail)
    return Failure(device, Reason.DEVICE_REFUSED, "the device must rest")
