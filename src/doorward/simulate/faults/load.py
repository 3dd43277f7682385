"""Third parties that go on asking while things break, and write down what they were told.

One thread per device. Each request has a key of its own; whoever gets no answer asks again under the same
key, as a careful third party does, or leaves it, as a careless one does.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from doorward.client import Client, DoorwardError
from doorward.client.errors import Unreachable
from doorward.simulate.faults.judge import Told

WATTS_MIN = 300
WATTS_MAX = 1_499
"""What a simulated pool pump can be limited to."""
AGAIN_MAX = 6
PASSING = ("system-failure", "congestion", "")
"""Reasons that say nothing about the request: it may have been accepted, or may be later."""


@dataclass
class Trader:
    """Asks one device for one power after the other until it is told to stop, or has asked for all."""

    client: Client
    device: str
    rng: random.Random
    pause_s: float
    deadline_s: float
    told: list[Told] = field(default_factory=list)
    slowest_s: float = 0.0
    """The longest that it took to be told, over all tries."""
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        """Go on in a thread of our own."""
        self._over.clear()
        self._thread = threading.Thread(target=self._run, name=f"trader of {self.device}")
        self._thread.start()

    def end(self) -> None:
        """Ask no more, and return when the last question is over."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def ask(self) -> Told | None:
        """Ask once, now; ``None`` when no power is left."""
        watts = WATTS_MIN + len(self.told)
        if watts > WATTS_MAX:
            return None
        told = Told(key=f"{self.device}-{watts}", power=(self.device, watts))
        self.told.append(told)
        # As a time, not as "from now": what is sent again under the same key is the same request.
        deadline = datetime.now(UTC) + timedelta(seconds=self.deadline_s)
        began_s = time.monotonic()
        for _ in range(AGAIN_MAX):
            if (
                self._say(told, deadline)
                or self._over.wait(self.rng.uniform(0.05, 0.5))
                or self.rng.random() < 0.2
            ):
                break
        self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
        return told

    def _run(self) -> None:
        while not self._over.is_set() and self.ask() is not None:
            self._over.wait(self.rng.uniform(0, 2 * self.pause_s))

    def _say(self, told: Told, deadline: datetime) -> bool:
        """Whether we were told what becomes of it."""
        try:
            asked = self.client.request(
                "limit",
                self.device,
                body={"watts": told.power[1]},
                cause="test",
                key=told.key,
                wait_s=0,
                deadline=deadline,
            )
        except Unreachable:
            return False
        except DoorwardError as error:
            if error.reason in PASSING:
                return False
            told.refused = error.reason
            return True
        told.id = asked.id
        return True


def all_told(traders: Sequence[Trader]) -> Iterator[Told]:
    """The lists of all, as one."""
    for trader in traders:
        yield from trader.told
