"""A utility on free ports in a directory of its own, its two companies with their endpoints, and a clock."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from doorward.ccs.rules.facts import StepRecord
from doorward.client import Client, Request
from doorward.client.ask import Ask
from doorward.client.defaults import real_clock
from doorward.client.errors import error_of
from doorward.client.records import Problem
from doorward.simulate.local_engines import journal, server_credentials
from doorward.simulate.local_utility import LocalUtility
from doorward.simulate.neighbourhood_plan import Home
from doorward.simulate.tour.callback import Callback
from doorward.simulate.tour.evidence import Trace, us_of
from doorward.simulate.tour.neighbourhood import COMPANY, CONTROLLED, OTHER, TOUR
from doorward.wire.steps import Outcome, Step

T = TypeVar("T")

NOTICE_WAIT_S_MAX = 20.0
DEVICE_WAIT_S_MAX = 25.0
RECORD_WAIT_S_MAX = 3.0
LOOK_S = 0.1
SAMPLE_S = 2
"""How often the tour's gateways sample their devices, so that there soon is a past to ask about."""


class Stage:
    """Everything that the tour plays on; started by :meth:`start`, ended by :meth:`stop` in any case."""

    def __init__(self, directory: Path, engines: tuple[str, str], workers: int = 1) -> None:
        self.clock = real_clock()
        self.utility = LocalUtility(
            directory,
            TOUR,
            engines=engines,
            workers=workers,
            gateway_settings={"sample_interval_s": SAMPLE_S},
        )
        self.clients: dict[str, Client] = {}
        self.callbacks: dict[str, Callback] = {}

    def start(self) -> None:
        """Start all processes and register the endpoints.

        Raises ``DidNotStart`` or a :class:`~doorward.client.errors.DoorwardError`.
        """
        self.utility.start()
        credentials = server_credentials(self.utility.authority, "tour")
        for party in (COMPANY, OTHER):
            client = Client(self.utility.url, client_id=party, client_secret=self.utility.secret(party))
            self.clients[party] = client
            self.callbacks[party] = Callback(credentials)
            self.callbacks[party].start(client)

    def stop(self) -> None:
        """End everything; idempotent."""
        for callback in self.callbacks.values():
            callback.stop()
        for client in self.clients.values():
            client.close()
        self.utility.stop()

    @property
    def client(self) -> Client:
        """The company that scenarios 1 and 2 are about."""
        return self.clients[COMPANY]

    # ---- asking --------------------------------------------------------------------------------------

    def send(self, ask: Ask, party: str = COMPANY) -> Request:
        """Send a request and do not wait; raises :class:`DoorwardError` when it is not accepted."""
        (item,) = self.clients[party].submit([ask])
        if item.request is None:
            raise error_of(item.problem or Problem(status=item.status))
        return item.request

    def trace(self, ask: Ask, home: Home) -> Trace:
        """Ask as a third party does by default: send, get a thin notice, fetch with a live token; then
        gather what everybody wrote down. The gateway's log comes later, by :meth:`with_log`."""
        asked_us = self.clock.now_us()
        sent = self.send(ask)
        self.callbacks[COMPANY].wait("request.result", sent.id, NOTICE_WAIT_S_MAX)
        request = self.client.get(sent.id)
        had_us = self.clock.now_us()
        files = {each.id: self.file_since(each.id, asked_us) for each in home.equipment}
        return Trace(request, self.client.journey(sent.id), [], files, asked_us, had_us)

    def with_log(self, traces: Iterable[Trace], gateway: str) -> list[Trace]:
        """Return the traces with what the gateway's own log has about them."""
        rows = self.utility.gateway_log(gateway)
        return [
            replace(trace, log=[row for row in rows if row.get("message") == trace.request.id])
            for trace in traces
        ]

    def file_since(self, device: str, at_us: int) -> list[dict[str, Any]]:
        """Return what a device wrote into its own file since a moment."""
        return [line for line in self.utility.actuations(device) if line["at_us"] >= at_us]

    def refused_step(self, message: str, steps: Collection[Step]) -> tuple[int, str]:
        """Return when the CCS's journal has a refusal at one of ``steps`` for a message, or what is wrong.

        Attempts of strangers are written soon, not at once.
        """

        def look() -> StepRecord | None:
            rows = asyncio.run(journal(self.utility.database, message))
            return next((row for row in rows if row.step in steps and row.outcome == Outcome.REFUSED), None)

        row = self.until(look, RECORD_WAIT_S_MAX)
        if row is None:
            return 0, f"the CCS's journal has no refusal at {' or '.join(steps)} for {message}"
        return row.at_us, ""

    def withdraw(self, party: str, service_point: str) -> None:
        """The customer withdraws: the permission is not in the utility's file any more, and that is applied."""
        parties = tuple(
            replace(each, homes=tuple(home for home in each.homes if home != service_point))
            if each.id == party
            else each
            for each in self.utility.plan.parties
        )
        self.utility.plan = replace(self.utility.plan, parties=parties)
        self.utility.apply()

    # ---- waiting -------------------------------------------------------------------------------------

    def until(self, look: Callable[[], T | None], wait_s: float) -> T | None:
        """Return the first thing that ``look`` finds, or ``None`` when the time is up."""
        end_s = time.monotonic() + wait_s
        while True:
            found = look()
            if found is not None or time.monotonic() > end_s:
                return found
            self.utility.require_alive()
            time.sleep(LOOK_S)

    def until_state(self, request: str, wait_s: float, party: str = COMPANY) -> Request:
        """Return a request once it is final, or as it stands when the time is up."""
        client = self.clients[party]

        def look() -> Request | None:
            request_now = client.get(request)
            return request_now if request_now.is_final else None

        return self.until(look, wait_s) or client.get(request)

    def await_chargers(self) -> None:
        """Chargers connect by themselves; the third party is told by a notice of the device."""
        chargers = {each.id for each in CONTROLLED.equipment if each.protocol != "modbus"}

        def look() -> bool | None:
            page = self.client.past_events(kind="device.notice")
            online = {each.device for each in page.items if each.data.get("kind") == "online"}
            return True if chargers <= online else None

        self.until(look, DEVICE_WAIT_S_MAX)


def final_us(request: Request) -> int:
    """Return when a request became final, or 0."""
    return us_of(request.final) if request.final is not None else 0
