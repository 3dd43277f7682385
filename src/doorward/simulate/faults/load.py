"""Third parties that go on asking while things break, and write down what they were told.

One thread per device. Each request has a key of its own; whoever gets no answer asks again under the same
key, as a careful third party does, or leaves it, as a careless one does.
"""

import base64
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from doorward.client import Client, DoorwardError
from doorward.client.ask import Control
from doorward.client.errors import Unreachable
from doorward.simulate.faults.judge import Told

WATTS_MIN = 300
WATTS_MAX = 1_499
"""What a simulated pool pump can be limited to."""
AGAIN_MAX = 6
PROBE_PAUSE_S = 0.05
PROBE_WAIT_S_MAX = 30.0
PROBE_DEADLINE_S = 20.0
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

    def ask(self, start_s: float = 0.0) -> Told | None:
        """Ask once, now, to begin in so many seconds; ``None`` when no power is left."""
        watts = WATTS_MIN + len(self.told)
        if watts > WATTS_MAX:
            return None
        told = Told(key=f"{self.device}-{watts}", power=(self.device, watts))
        self.told.append(told)
        # As a time, not as "from now": what is sent again under the same key is the same request.
        now = datetime.now(UTC)
        deadline = now + timedelta(seconds=self.deadline_s)
        how: Control = {"key": told.key, "deadline": deadline, "cause": "test", "wait_s": 0}
        if start_s:
            how["start"] = now + timedelta(seconds=start_s)
        began_s = time.monotonic()
        for _ in range(AGAIN_MAX):
            if (
                self._say(told, how)
                or self._over.wait(self.rng.uniform(0.05, 0.5))
                or self.rng.random() < 0.2
            ):
                break
        self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
        return told

    def _run(self) -> None:
        while not self._over.is_set() and self.ask() is not None:
            self._over.wait(self.rng.uniform(0, 2 * self.pause_s))

    def _say(self, told: Told, how: Control) -> bool:
        """Whether we were told what becomes of it."""
        try:
            asked = self.client.request("limit", self.device, body={"watts": told.power[1]}, **how)
        except Unreachable:
            return False
        except DoorwardError as error:
            if error.reason in PASSING:
                return False
            told.refused = error.reason
            return True
        told.id = asked.id
        return True


class Prober:
    """Makes single calls, without an SDK that tries again, and counts how each was answered.

    ``answers`` has HTTP statuses; 0 is no answer at all. What it asks is on its list like everybody's.
    """

    def __init__(self, url: str, party: str, secret: str, device: str) -> None:
        self._url = url
        self._credentials = f"{party}:{secret}"
        self._token = ""
        self._device = device
        self.told: list[Told] = []
        self.answers: Counter[int] = Counter()

    def count(self, status: int) -> int:
        """How many calls were answered so; makes one more."""
        self.ask()
        return self.answers[status]

    def go_on(self, seconds: float) -> None:
        """Make calls for a while."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.ask()
            time.sleep(PROBE_PAUSE_S)

    def renew(self) -> None:
        """Sign in anew."""
        self._token = ""
        self._sign_in()

    def ask(self, *, keep_token: bool = False) -> int:
        """Ask once; return the status. A token that is refused is replaced unless it is to be kept."""
        watts = WATTS_MAX - len(self.told)
        told = Told(key=f"probe-{watts}", power=(self._device, watts))
        body = {
            "operation": "limit",
            "device": self._device,
            "body": {"watts": watts},
            "cause": "test",
            "deadline": (datetime.now(UTC) + timedelta(seconds=PROBE_DEADLINE_S)).isoformat(),
        }
        if not self._token and not self._sign_in():
            return 0
        headers = {"Authorization": f"Bearer {self._token}", "Idempotency-Key": told.key}
        status, answer = self._call("/v1/requests", json.dumps(body).encode(), headers)
        self.told.append(told)
        self.answers[status] += 1
        if status == HTTPStatus.UNAUTHORIZED and not keep_token:
            self._token = ""
        if status in (HTTPStatus.ACCEPTED, HTTPStatus.OK):
            told.id = answer["id"]
        elif HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            told.refused = answer.get("reason", str(status))
        return status

    def _sign_in(self) -> bool:
        basic = base64.b64encode(self._credentials.encode()).decode()
        form = b"grant_type=client_credentials&scope=monitor+control"
        status, answer = self._call("/oauth/token", form, {"Authorization": f"Basic {basic}"})
        self._token = answer.get("access_token", "")
        if not self._token:
            self.answers[status] += 1
        return bool(self._token)

    def _call(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        kind = "application/json" if body.startswith(b"{") else "application/x-www-form-urlencoded"
        request = urllib.request.Request(  # noqa: S310
            self._url + path, body, {"Content-Type": kind, **headers}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=PROBE_WAIT_S_MAX) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except (OSError, http.client.HTTPException):
            return 0, {}
