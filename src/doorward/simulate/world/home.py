"""The gateways: the real application on its own disk, each in a process that can be killed."""

import asyncio
import random
from collections.abc import Callable

from doorward.kit.clock import SlewingClock
from doorward.simulate.world import town
from doorward.simulate.world.devices import Adapter, Street
from doorward.simulate.world.disk import GatewayStore
from doorward.simulate.world.loop import Process
from doorward.simulate.world.network import BrokerUplink
from doorward.spg.app import GatewayApp
from doorward.spg.engines.clock import GatewayClock
from doorward.spg.ports import DeviceNotice
from doorward.spg.rules.facts import Keys, Policy

CALL_S_MAX = 10.0
"""How long a call to a device may take."""

POLICY = Policy(
    per_hour=town.PER_HOUR,
    per_day=town.PER_DAY,
    sample_us=0,
    rest_us={"relay": 20 * town.US},
    end_spread_us_max=60 * town.US,
)


class Home:
    """One gateway's process, from its start to its death."""

    def __init__(
        self,
        name: str,
        process: Process,
        *,
        store: GatewayStore,
        uplink: BrokerUplink,
        street: Street,
        wall_s: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.name = name
        self.process = process
        self.uplink = uplink
        clock = GatewayClock(SlewingClock(wall_s, asyncio.get_running_loop().time, slew_per_s=0.0))
        self.clock = clock
        self.adapter = Adapter(street, clock.now_us)
        self.app = GatewayApp(
            keys=Keys(gateway=name, link=town.link_key(name), authority=town.AUTHORITY_KEYS),
            policy=POLICY,
            clock=clock,
            rng=rng,
            store=store,
            uplink=uplink,
            adapters={"sim": self.adapter},
            han_call_s_max=CALL_S_MAX,
        )

    async def run(self) -> None:
        """Start, as ``doorward spg`` does."""
        while True:
            try:
                await self.app.start()
                return
            except Exception:  # the process would end, and be started again
                await asyncio.sleep(0.5)

    def said(self, notice: DeviceNotice) -> None:
        """A device speaks by itself."""
        if self.adapter.notices is not None:
            self.process.start(self.adapter.notices(notice))  # type: ignore[arg-type]
