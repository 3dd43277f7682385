"""Wall clocks: what each machine believes the time to be, however wrong.

The CCS's workers share one wall (the database's, half a second apart at most); every gateway has its own.
"""

import random
from collections.abc import Callable

from doorward.simulate.world import town
from doorward.simulate.world.loop import WorldLoop

START_S = town.START_US / town.US


class Walls:
    """All wall clocks of a world (seconds since 1970)."""

    def __init__(self, loop: WorldLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self.ccs_wrong_s = 0.0
        self.gateway_wrong_s: dict[str, float] = dict.fromkeys(town.GATEWAYS, 0.0)
        self.steps = 0

    def ccs_s(self) -> float:
        """The time that the CCS's machines believe."""
        return START_S + self._loop.time() + self.ccs_wrong_s

    def gateway_s(self, gateway: str) -> Callable[[], float]:
        """Return the clock of a gateway's machine."""
        return lambda: START_S + self._loop.time() + self.gateway_wrong_s[gateway]

    def step_ccs(self) -> None:
        """The CCS's clock is set, forward or back."""
        self.steps += 1
        self.ccs_wrong_s += self._rng.choice((-30.0, -2.0, 2.0, 30.0))

    def step_gateway(self, gateway: str) -> None:
        """A gateway's clock is set, forward or back."""
        self.steps += 1
        self.gateway_wrong_s[gateway] = self._rng.choice((-3600.0, -600.0, -30.0, 0.0, 30.0, 600.0, 3600.0))

    def rebooted(self, gateway: str, wrong: bool) -> None:
        """A gateway's machine starts anew; without a battery it begins in 1970."""
        if wrong:
            self.steps += 1
            self.gateway_wrong_s[gateway] = self._rng.choice((-START_S, -600.0, 600.0))

    def right(self) -> None:
        """Somebody sets all clocks right."""
        self.ccs_wrong_s = 0.0
        self.gateway_wrong_s = dict.fromkeys(self.gateway_wrong_s, 0.0)
