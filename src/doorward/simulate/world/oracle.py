"""The judge: when a world has come to rest, the four ledgers are compared as sets."""

from collections import Counter, defaultdict
from typing import Any

import msgspec

from doorward.ccs.rules.facts import JournalRow, Request
from doorward.simulate.world import town
from doorward.simulate.world.ledger import FINAL
from doorward.wire.vocabulary import Operation

US = town.US
WARNED_US = 15 * 60 * US
LATE_US = 6 * US
"""How late a deadline may be seen when nothing is wrong: the pace of the duty, and a commit."""


async def judge(world: Any) -> None:
    """Note every promise that was not kept."""
    await Judge(world).judge()


class Judge:
    """All comparisons of one world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.breach = world.ledger.breach
        self.acts: dict[str, list[str]] = defaultdict(list)
        for act in world.street.acts:
            if act.operation is not Operation.RELEASE:
                self.acts[act.id].append(act.device)

    async def judge(self) -> None:
        """Compare everything."""
        disk = self.world.disks.ccs
        ids = [row[0] for row in disk.ask("SELECT id FROM request ORDER BY id")]
        self.requests: dict[str, Request] = await disk.read(lambda books: books.requests(ids))
        self.events: dict[str, Counter[str]] = defaultdict(Counter)
        self.warned_us: dict[str, int] = {}
        for kind, request, created_us in disk.ask("SELECT kind, request, created_us FROM event ORDER BY seq"):
            self.events[request][kind] += 1
            if kind == "request.warning":
                self.warned_us.setdefault(request, created_us)
        self.inbox: dict[str, tuple[str, int]] = {}
        for gateway in self.world.disks.gateways.values():
            for id, state, received_us in gateway.ask("SELECT id, state, received_us FROM inbox"):
                self.inbox[id] = (state, received_us)
        self._third_parties()
        for request in self.requests.values():
            self._ended(request)
            self._acted(request)
            self._warned(request)
            self._kept_going(request)
            rows = await disk.read(lambda books, id=request.id: books.journal(id))
            self._explained(request, rows)
        self._strangers()
        self._webhooks()
        self._at_rest()

    # --- the third parties' ledger --------------------------------------------------------------------------

    def _third_parties(self) -> None:
        keys: dict[tuple[str, str], list[str]] = defaultdict(list)
        for request in self.requests.values():
            keys[request.party, request.key].append(request.id)
        for wish in self.world.third_parties.wishes:
            known = keys.get((wish.party, wish.key), [])
            if len(known) > 1 or len(wish.ids) > 1:
                self.breach("twice", f"{wish.key} of {wish.party} became {sorted(set(known) | wish.ids)}")
            for id in wish.ids - set(self.requests):
                self.breach("lost", f"{id} was accepted and is not in the books")
            if known and wish.refused:
                self.breach("told", f"{wish.key} is {known[0]} and was refused: {wish.refused[0][1].reason}")
        told: dict[str, set[str]] = defaultdict(set)
        for seen in self.world.third_parties.seen:
            if seen.state in FINAL:
                told[seen.request].add(seen.state)
        for hook in self.world.third_parties.hooks:
            data = hook.body.get("data")
            if hook.kind == "request.result" and isinstance(data, dict) and "state" in data:
                told[hook.request].add(str(data["state"]))
        for id, states in told.items():
            is_now = self.requests[id].state if id in self.requests else "nowhere"
            if states != {is_now}:
                self.breach("told", f"{id} was told as {sorted(states)}, and is {is_now}")

    # --- one request -----------------------------------------------------------------------------------------

    def _ended(self, request: Request) -> None:
        """Exactly one final state, by the deadline."""
        finals = self.world.ledger.finals[request.id]
        if len(finals) != 1 or finals[0] != request.state:
            self.breach("one end", f"{request.id} ended as {finals}, and is {request.state}")
            return
        allowed_us = LATE_US + self.outage_us(request.due_us, request.final_us)
        if request.final_us > request.due_us + allowed_us:
            late_s = (request.final_us - request.due_us) / US
            self.breach("deadline", f"{request.id} ended {late_s:.1f} s after its deadline")
        results = self.events[request.id]["request.result"]
        if results != 1 + bool(request.settlement):
            self.breach("one end", f"{request.id} has {results} results, settlement {request.settlement!r}")

    def outage_us(self, since_us: int, until_us: int) -> int:
        """How long in between no worker could do anything."""
        total = 0
        slack_us = 2 * US
        for outage in self.world.outages:
            end_us = (outage.until_us or self.world.now_us()) + slack_us
            total += max(0, min(end_us, until_us + slack_us) - max(outage.since_us - slack_us, since_us))
        if self.world.walls.steps:
            total += 120 * US
        return total

    def _acted(self, request: Request) -> None:
        """At most one act per device; DONE if and only if it acted."""
        acts = self.acts.get(request.id, [])
        for device, count in Counter(acts).items():
            if count > 1:
                self.breach("acted twice", f"{device} was told {request.id} {count} times")
        if not request.operation.is_control or request.operation is Operation.RELEASE:
            return
        word = request.settlement or request.state
        there = self.inbox.get(request.id)
        if word in ("REFUSED", "EXPIRED", "CANCELLED", "NOT_DONE") and acts:
            self.breach("acted", f"{request.id} is {word}, and {acts} acted")
        if word == "DONE" and not acts and request.scope != "service_point":
            self.breach("acted", f"{request.id} is DONE, and no device acted")
        known = there is not None and there[0] in FINAL and request.state != "UNCONFIRMED"
        if known and there is not None and there[0] != request.state:
            self.breach("ledgers", f"{request.id} is {request.state} at the CCS, {there[0]} at the gateway")
        if request.at_gateway_us and there is None:
            self.breach(
                "ledgers", f"{request.id} is at the gateway for the CCS, and the gateway never had it"
            )

    def _warned(self, request: Request) -> None:
        """N07: told inside 15 minutes when the gateway has not had it."""
        there = self.inbox.get(request.id)
        had = there is not None and there[0] != "UNKNOWN" and there[1] <= request.received_us + WARNED_US
        if had or request.at_gateway_us or request.state == "CANCELLED":
            return
        if (
            request.final_us
            and request.final_us <= request.received_us + WARNED_US
            and request.state in ("DONE", "FAILED", "REFUSED")
        ):
            return
        warned_us = self.warned_us.get(request.id)
        if warned_us is None:
            if (
                request.state in ("EXPIRED", "UNCONFIRMED")
                or request.final_us > request.received_us + WARNED_US
            ):
                self.breach(
                    "warning", f"{request.id} is {request.state}, was never delivered, and nobody was warned"
                )
            return
        late_us = warned_us - request.received_us - WARNED_US
        if late_us > self.outage_us(request.received_us, warned_us) and request.start_us == 0:
            self.breach("warning", f"{request.id}: the warning came {late_us / US:.0f} s too late")

    def _kept_going(self, request: Request) -> None:
        """What was open when everything healed, and had time, was not given up."""
        well_us = max([self.world.healed_us, *(outage.until_us for outage in self.world.outages)])
        if request.due_us < well_us + 100 * US or request.received_us > well_us:
            return
        if request.state == "UNCONFIRMED" and not request.charge_us:
            return  # what was sent and is sent again long after is charged twice, and found no room in its limit
        there = self.inbox.get(request.id)
        if request.state == "EXPIRED" and there is None:
            self.breach("gave up", f"{request.id} had time after all was well, and was never delivered")
        if request.state == "UNCONFIRMED" and (there is None or there[0] != "UNCONFIRMED"):
            self.breach("gave up", f"{request.id} had time after all was well, and there is no proof")

    # --- the journal -----------------------------------------------------------------------------------------

    def _explained(self, request: Request, rows: list[JournalRow]) -> None:
        """Every state and time of a request is explained by the journal."""
        steps = [step for row in rows for step in row.steps]
        words = Counter(str(step.step) for step in steps)
        details = {(str(step.step), step.detail) for step in steps}

        def need(what: str, holds: bool) -> None:
            if not holds:
                self.breach("journal", f"{request.id} ({request.state}): {what} is not explained")

        need("acceptance", words["recorded"] == 1)
        need("attempts", words["passed_to_gateway"] >= request.attempt)
        if request.at_gateway_us:
            need("receipt", words["gateway_received"] + words["gateway_checked"] + words["passed_to_ccs"] > 0)
        state = request.state
        need(
            "end",
            ("answer_recorded", state) in details
            or ("expired", state) in details
            or (state == "CANCELLED" and words["cancel_asked"] > 0),
        )
        if request.answer == "DELIVERED":
            need("hand-over", words["handed_over"] > 0 and words["handing_over"] > 0)
        if request.answer == "WITHHELD":
            need("withholding", words["withheld"] > 0)
        if request.settlement:
            need("settlement", ("settled", request.settlement) in details)
        if self.events[request.id]["request.warning"]:
            need("warning", words["warned"] > 0)

    # --- the others --------------------------------------------------------------------------------------------

    def _strangers(self) -> None:
        for id, devices in self.acts.items():
            if id not in self.requests:
                self.breach("acted", f"{devices} were told {id}, which is not in the books")
        for id, (state, _) in self.inbox.items():
            if id not in self.requests and state != "UNKNOWN":
                self.breach("ledgers", f"{id} is at a gateway and not in the books")
        for device in self.world.street.overlaps:
            self.breach("one at a time", f"two calls for {device} at once")

    def _webhooks(self) -> None:
        """Whatever was to be pushed has arrived; data only by a hand-over that is on record."""
        arrived = {hook.id for hook in self.world.third_parties.hooks}
        for id, kind, webhook in self.world.disks.ccs.ask("SELECT id, kind, webhook FROM event"):
            if webhook == "done" and id not in arrived:
                self.breach("webhook", f"{kind} {id} counts as pushed, and did not arrive")
            if webhook == "dead":
                self.breach("webhook", f"{kind} {id} was given up")

    def _at_rest(self) -> None:
        """Every device is its owner's again."""
        for device in self.world.street.devices.values():
            if device.settings != device.owners and not device.missed:
                self.breach(
                    "let go", f"{device.id} is left at {device.settings}, its owner has {device.owners}"
                )


def as_json(world: Any) -> bytes:
    """Return what a world came to, for comparing two runs of one seed."""
    rows = world.disks.ccs.ask("SELECT id, state, attempt, final_us, answer FROM request ORDER BY id")
    return msgspec.json.encode([rows, [msgspec.to_builtins(act) for act in world.street.acts]])
