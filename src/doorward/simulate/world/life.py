"""What happens in a world while there is trouble: people ask, cancel, change access; things break."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from doorward.simulate.world import town
from doorward.simulate.world.devices import Mood
from doorward.simulate.world.loop import Process
from doorward.simulate.world.plan import Fault
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import DeviceClass

US = town.US


class Life:
    """Everything that happens, each as a task of the world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.rng: random.Random = world._dice()
        self.plan = world.plan
        self._asks: list[asyncio.Task[None]] = []
        self._troubles: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Let it all happen, each at its time."""
        span_s = self.plan.span_s
        start_s = self.rng.random() * span_s
        for number in range(self.plan.asks):
            close = self.plan.busy and self.rng.random() < 0.7
            at_s = start_s + self.rng.random() * min(3.0, span_s) if close else self.rng.random() * span_s
            self._asks.append(self._at(min(at_s, span_s), self._ask(number)))
        for fault, happen in (
            (Fault.CUTS, self._cut),
            (Fault.BROKER, self._wipe),
            (Fault.CCS_CRASH, self._kill_worker),
            (Fault.CCS_DOWN, self._kill_all_workers),
            (Fault.GATEWAY_CRASH, self._kill_gateway),
            (Fault.PAUSE, self._pause),
            (Fault.PAUSE_WORKERS, self._pause_worker),
            (Fault.CCS_CLOCK, self._step_ccs),
            (Fault.GATEWAY_CLOCK, self._step_gateway),
            (Fault.DEVICES, self._spoil),
            (Fault.RESIDENTS, self._override),
            (Fault.ACCESS, self._change_access),
            (Fault.ENDPOINTS, self._endpoint_down),
        ):
            if self.plan.has(fault):
                for _ in range(self.rng.choice((1, 1, 2, 3))):
                    self._troubles.append(self._at(self.rng.random() * span_s, happen()))

    def end(self) -> None:
        """Nothing more happens; what was asked goes on to its answer."""
        for task in self._troubles:
            task.cancel()

    def _at(self, delay_s: float, what: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        async def later() -> None:
            try:
                await asyncio.sleep(delay_s)
            except asyncio.CancelledError:
                what.close()
                raise
            await what

        task: asyncio.Task[None] = self.world.loop.create_task(later())
        return task

    # --- asking --------------------------------------------------------------------------------------------

    async def _ask(self, number: int) -> None:
        third_parties, rng = self.world.third_parties, self.rng
        party, body = self._draw_ask()
        wish = third_parties.wish(party, body, f"key-{number}")
        await third_parties.ask(wish)
        if self.plan.has(Fault.CANCELS) and rng.random() < 0.5:
            await asyncio.sleep(rng.expovariate(0.5))
            await third_parties.cancel(wish)
        if rng.random() < 0.5:
            await asyncio.sleep(rng.random() * 20.0)
            await third_parties.look(wish)

    def _draw_ask(self) -> tuple[str, dict[str, object]]:
        rng = self.rng
        home = "sp-1" if self.plan.busy and rng.random() < 0.7 else rng.choice(list(town.HOMES))
        party = rng.choice(town.PARTIES) if home == "sp-3" or rng.random() < 0.05 else "bright"
        choice = rng.random()
        if choice < 0.05:
            return party, {"operation": "read", "scope": "home", "service_point": home}
        if choice < 0.1:
            watts = rng.choice((500, 1500, 3000))
            body: dict[str, object] = {
                "operation": "limit",
                "scope": "service_point",
                "service_point": home,
                "body": {"watts": watts},
            }
            return party, body | self._times()
        name = rng.choice([each for each, (_, at) in town.DEVICES.items() if at == home])
        kind = town.DEVICES[name][0]
        if choice < 0.35:
            return party, {"operation": "read", "device": name} | self._deadline()
        if choice < 0.45:
            return party, {"operation": "release", "device": name}
        return party, {"device": name} | self._control(kind) | self._times() | self._deadline()

    def _control(self, kind: DeviceClass) -> dict[str, object]:
        rng = self.rng
        if kind is DeviceClass.EV_CHARGER and rng.random() < 0.7:
            return {"operation": "limit", "body": {"watts": rng.choice((500, 1000, 1500))}}
        if kind is DeviceClass.THERMOSTAT:
            return {"operation": "setpoint", "body": {"celsius": rng.choice((18, 22, 24))}}
        if kind is DeviceClass.RELAY and rng.random() < 0.25:
            return {"operation": "turn_on"}
        return {"operation": "turn_off"}

    def _times(self) -> dict[str, object]:
        rng, now_us = self.rng, self.world.now_us()
        times: dict[str, object] = {}
        begin_us = now_us
        if rng.random() < 0.15:
            begin_us = now_us + rng.choice((10, 60, 600)) * US
            times["start"] = to_rfc3339(begin_us)
        times["until"] = to_rfc3339(begin_us + rng.choice((100, 300, 900)) * US)
        return times

    def _deadline(self) -> dict[str, object]:
        if self.rng.random() < 0.6:
            return {}
        seconds = self.rng.choice((15, 120, 800, 1200, 3600))
        return {"deadline": to_rfc3339(self.world.now_us() + seconds * US)}

    # --- breaking ------------------------------------------------------------------------------------------

    def _length_s(self) -> float:
        """How long some trouble lasts."""
        return self.rng.choice((1.0, 5.0, 20.0, 100.0, 1000.0)) * (0.5 + self.rng.random())

    async def _cut(self) -> None:
        gateway = self.rng.choice(town.GATEWAYS)
        self.world.network.break_up(gateway)
        await asyncio.sleep(self._length_s())
        self.world.network.mend(gateway)

    async def _wipe(self) -> None:
        self.world.network.wipe()

    async def _kill_worker(self) -> None:
        workers = self.world.living_workers()
        if workers and not self.world.healed:
            self.world.kill(self.rng.choice(workers).process)

    async def _kill_all_workers(self) -> None:
        down_s = self.rng.choice((1.0, 30.0, 300.0, 840.0))
        await self.world.stop_ccs(down_s)

    async def _kill_gateway(self) -> None:
        homes = list(self.world.homes.values())
        if homes and not self.world.healed:
            self.world.kill(self.rng.choice(homes).process)

    async def _pause(self) -> None:
        processes = [each.process for each in self.world.living_workers()]
        processes += [each.process for each in self.world.homes.values()]
        await self._pause_one(processes, (0.5, 5.0, 15.0, 60.0))

    async def _pause_worker(self) -> None:
        """Past its lease, while others take over."""
        await self._pause_one([each.process for each in self.world.living_workers()], (13.0, 16.0, 25.0))

    async def _pause_one(self, processes: list[Process], lengths_s: tuple[float, ...]) -> None:
        if not processes or self.world.healed:
            return
        process = self.rng.choice(processes)
        self.world.mishaps.counts["pause"] += 1
        process.pause()
        self.world.health_changed()
        await asyncio.sleep(self.rng.choice(lengths_s))
        process.go_on()
        self.world.health_changed()

    async def _step_ccs(self) -> None:
        if not self.world.healed:
            self.world.walls.step_ccs()

    async def _step_gateway(self) -> None:
        if not self.world.healed:
            self.world.walls.step_gateway(self.rng.choice(town.GATEWAYS))

    async def _spoil(self) -> None:
        device = self.rng.choice(list(self.world.street.devices.values()))
        if not self.world.healed:
            device.mood = self.rng.choice([mood for mood in Mood if mood is not Mood.WELL])
            await asyncio.sleep(self._length_s())
            device.mood = Mood.WELL

    async def _override(self) -> None:
        """Somebody at home chooses otherwise, and maybe lets it go again."""
        device = self.rng.choice(list(self.world.street.devices.values()))
        self.world.override(device, True)
        await asyncio.sleep(self._length_s())
        self.world.override(device, False)

    async def _change_access(self) -> None:
        await self.world.change_access(self.rng.choice(sorted(self.world.grants)), self.rng)

    async def _endpoint_down(self) -> None:
        party = self.rng.choice(town.PARTIES)
        if not self.world.healed:
            self.world.third_parties.down[party] = self.rng.choice(("refuses", "hangs", "forgets"))
            await asyncio.sleep(self._length_s())
            self.world.third_parties.down.pop(party, None)
