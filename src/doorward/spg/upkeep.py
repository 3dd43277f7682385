"""What time does at the gateway: controls end, requests begin, devices are sampled, old rows go.

One timer, set to the earliest thing that is due; every time comes from the store, so a restart sets it again.
"""

import asyncio
from contextlib import suppress

from doorward.spg.journey import Journey
from doorward.spg.ports import Books, DeviceFault
from doorward.spg.rules.facts import DAY_US, HOUR_US, US, Sample
from doorward.wire.messages import ProvisionedDevice

SLEEP_S_MAX = 3_600.0
SLEEP_S_MIN = 0.001
SAMPLE_RANK = 1_000
"""Sampling stands behind everything else that waits for a device."""
SAMPLED_TOGETHER_MAX = 8
PRUNE_EVERY_US = 6 * HOUR_US
PRUNE_ROUNDS_MAX = 20


class Upkeep:
    """Runs until cancelled."""

    def __init__(self, journey: Journey) -> None:
        self.journey = journey
        self.desk = journey.desk
        self.desk.poke = self.poke
        self._wake = asyncio.Event()
        self._sample_us = 0
        self._sampling: asyncio.Task[None] | None = None
        self._prune_us = 0

    def poke(self) -> None:
        """Something new may be due earlier than what the timer is set to."""
        self._wake.set()

    async def run(self) -> None:
        """Do what is due, then sleep until the next thing is."""
        now_us = self.desk.clock.now_us()
        self._sample_us = self._next_sample_us(now_us)
        self._prune_us = now_us + self.desk.draw(PRUNE_EVERY_US)
        while True:
            self._wake.clear()
            now_us = self.desk.clock.now_us()
            await self._do_due(now_us)
            await self._sleep_until(self._next_us())

    async def _sleep_until(self, due_us: int | None) -> None:
        wait_s = SLEEP_S_MAX
        if due_us is not None:
            wait_s = max(SLEEP_S_MIN, min(wait_s, (due_us - self.desk.clock.now_us()) / US))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()

    def _next_us(self) -> int | None:
        due = [self.journey.letting_go.next_us(), self.desk.tally.due_us(), self._prune_us]
        if self.desk.clock.trusted:
            due += self.desk.armed.values()
        if self.desk.policy.sample_us:
            due.append(self._sample_us)
        return min((each for each in due if each is not None), default=None)

    async def _do_due(self, now_us: int) -> None:
        self.journey.letting_go.due(now_us)
        self._begin_due(now_us)
        await self._report_attempts(now_us)
        if self.desk.policy.sample_us and now_us >= self._sample_us:
            self._sample_us = self._next_sample_us(now_us)
            if self._sampling is None or self._sampling.done():
                self._sampling = self.desk.spawn(self._sample())
        if now_us >= self._prune_us:
            self._prune_us = now_us + PRUNE_EVERY_US
            self.desk.spawn(self._prune(now_us))

    def _begin_due(self, now_us: int) -> None:
        """Requests whose start has come are checked again from the beginning."""
        if not self.desk.clock.trusted:
            return
        for id in [id for id, start_us in self.desk.armed.items() if start_us <= now_us]:
            del self.desk.armed[id]
            entry = self.desk.opened.get(id)
            if entry is not None:
                self.desk.spawn(self.journey.acting.carry_out(entry))

    async def _report_attempts(self, now_us: int) -> None:
        reports = self.desk.tally.take(now_us)
        if reports:
            page = self.desk.page()
            for report in reports:
                page.attempt(report)
            await self.desk.commit_surely(page)

    # --- samples -------------------------------------------------------------------------------------

    def _next_sample_us(self, now_us: int) -> int:
        """The next multiple of the interval."""
        every_us = self.desk.policy.sample_us
        return (now_us // every_us + 1) * every_us if every_us else 0

    async def _sample(self) -> None:
        """What every device does now; it stays in the home unless a grant asks for it (S1.01b)."""
        gate = asyncio.Semaphore(SAMPLED_TOGETHER_MAX)
        devices = list(self.desk.house.devices.values())
        answers = await asyncio.gather(*(self._sample_one(device, gate) for device in devices))
        samples = [sample for sample in answers if sample is not None]
        confirmed_us = self.desk.clock.now_us() if self.desk.clock.confirmed else 0

        def write(books: Books) -> None:
            books.keep_time(confirmed_us)
            books.add_samples(samples)

        await self.desk.store.write(write)

    async def _sample_one(self, device: ProvisionedDevice, gate: asyncio.Semaphore) -> Sample | None:
        """A device that does not answer leaves a gap."""
        async with gate:
            try:
                async with self.desk.hands.hold([device.id], SAMPLE_RANK):
                    reading = await self.journey.monitoring.read_held(device)
            except DeviceFault:
                return None
        return Sample(
            device=device.id,
            at_us=reading.at_us,
            state=reading.state.value,
            power_w=reading.power_w,
            energy_wh=reading.energy_wh,
        )

    async def _prune(self, now_us: int) -> None:
        """Remove what is older than its time, a slice at a time."""
        policy = self.desk.policy
        for _ in range(PRUNE_ROUNDS_MAX):
            gone = await self.desk.store.write(
                lambda books: books.prune(
                    inbox_us=now_us - policy.inbox_keep_us,
                    payload_us=now_us - policy.payload_keep_us,
                    journal_us=now_us - policy.journal_keep_us,
                    samples_us=now_us - policy.sample_keep_us,
                    counts_us=now_us - 2 * DAY_US,
                    now_us=now_us,
                )
            )
            if not gone:
                return
