"""Monitoring: what devices say when they are asked, and what the gateway has sampled of their past (scenario 1)."""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from doorward.spg.answers import Failure, is_on, raw, reading_data, require_sound, wanted_of
from doorward.spg.desk import Desk, Entry
from doorward.spg.letting_go import LettingGo
from doorward.spg.ports import DeviceFault, Reading
from doorward.spg.rules import checks, history
from doorward.spg.rules.facts import Sample
from doorward.spg.under_way import finish, passed_to_han, recheck
from doorward.wire.grants import DevicePermit
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Refused
from doorward.wire.steps import Step
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import DeviceClass, Scope


class Monitoring:
    """Reads devices, for whoever may ask and for the gateway itself."""

    def __init__(self, desk: Desk, letting_go: LettingGo) -> None:
        self.desk = desk
        self.letting_go = letting_go

    async def read(self, entry: Entry) -> None:
        """Answer a request to read: one device, a home, or a past interval."""
        body = checks.body_of(entry.command)
        permits = recheck(self.desk, entry, [])
        interval = history.interval_of(body)
        if interval is not None:
            return await self._past(entry, permits, *interval)
        answers = await asyncio.gather(*(self._read_one(entry, permit.device) for permit in permits))
        page = self.desk.page()
        readings = [answer for answer in answers if isinstance(answer, Reading)]
        failures = [answer for answer in answers if isinstance(answer, Failure)]
        if not readings:
            first = failures[0]
            return await finish(
                self.desk, entry, "FAILED", reason=first.reason, detail=first.detail, page=page
            )
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
        return await finish(self.desk, entry, "DONE", data=raw(data), page=page)

    async def _read_one(self, entry: Entry, device_id: str) -> Reading | Failure:
        """Read one device; one that fails is a failure of its own and disturbs no other."""
        try:
            async with self.desk.hands.hold([device_id], entry.command.klass):
                recheck(self.desk, entry, [device_id])
                await passed_to_han(self.desk, entry)
                recheck(self.desk, entry, [device_id])
                return await self.read_held(
                    self.desk.house.require_listed(device_id, entry.command.service_point)
                )
        except DeviceFault as fault:
            return Failure(device_id, fault.reason, fault.detail)
        except Refused as refused:
            if entry.command.scope is Scope.DEVICE:
                raise
            return Failure(device_id, refused.reason, refused.detail)

    async def read_held(self, device: ProvisionedDevice) -> Reading:
        """Read a device whose lock the caller holds, and learn from what it says."""
        reading = replace(await self.desk.hands.read(device), at_us=self.desk.clock.now_us())
        require_sound(reading, device.id)
        self.learn(reading)
        return reading

    async def read_all(self, devices: Sequence[str]) -> tuple[dict[str, Reading], list[Failure]]:
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
        await finish(self.desk, entry, "DONE", data=raw(data), page=page)

    async def _samples(self, device: str, begin_us: int, end_us: int) -> list[Sample]:
        return await self.desk.store.read(lambda books: books.samples(device, begin_us, end_us))


def total_power_w(readings: Sequence[Reading], devices: dict[str, ProvisionedDevice]) -> float:
    """Return the meters' power where any was read, else the sum of the devices."""
    meters = [
        r for r in readings if r.device in devices and devices[r.device].device_class is DeviceClass.METER
    ]
    return round(sum(reading.power_w for reading in meters or readings), 1)
