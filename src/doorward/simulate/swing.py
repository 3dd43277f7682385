"""How much load an attacker can swing at once (X04): a million homes, the real caps and the real draws.

Real: what a control weighs, the caps and what counts as a campaign (``ccs.rules.fleet``), the span of a random
start and the window of a random end (``spg.rules.controls``). A model: every home has one device of one power,
which does at once what it is told; commands take no time on the way; the attacker knows everything.
"""

import random
from collections.abc import Iterator, Sequence

import msgspec

from doorward.ccs.rules.fleet import KW, US, FleetLog, FleetTerms, Load, Move, Scales, keys_of
from doorward.spg.rules.controls import end_window_us, start_room_us
from doorward.spg.rules.facts import Policy
from doorward.wire.messages import Command
from doorward.wire.vocabulary import Operation, Scope

PARTY = "thief"
LASTS_S = 3 * 3600
"""How long an attack is played."""
TURN_S = 5_400
"""When what the attacker holds is let go: all of it at the same second."""
WINDOWS_S = {"second": 1, "minute": 60, "five_minutes": 300}
FAR_US = 10**15


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One attack and its steepest steps, in MW."""

    attacker: str
    attack: str
    protections: str
    moved_mw: float
    steps_mw: dict[str, float]
    curve: list[float]
    """MW off the usual, second by second."""


class City:
    """Homes with one device each; ``terms`` and ``policy`` are what the utility and its gateways go by."""

    def __init__(
        self, homes: int, device_w: int, terms: FleetTerms, policy: Policy, rng: random.Random
    ) -> None:
        self.homes = homes
        self.device_w = device_w
        self.terms = terms
        self.policy = policy
        self.rng = rng

    def cases(self) -> Iterator[Case]:
        """Yield every attack, without protections and with them."""
        all_at_once = self._all_at_once()
        yield self._case("one third party's key", "everything off and on again at once", "none", all_at_once)
        off = self._with_one_key(campaign=False)
        for attack, ends in (
            ("as much as the caps let through, all cancelled in one second", self._let_go(off)),
            ("as much as the caps let through, all ending at one time", self._at_one_time(off)),
        ):
            yield self._case("one third party's key", attack, "caps and draws", [*_begins(off), *ends])
        slow = self._slowly()
        singles = [*_begins(slow), *self._let_go(slow)]
        yield self._case(
            "one third party's key",
            "single controls one by one, all cancelled in one second",
            "caps and draws",
            singles,
        )
        yield self._case("the whole CCS", "everything off and on again at once", "none", all_at_once)
        yield self._case(
            "the whole CCS", "forged controls, where permissions ask for signatures", "signatures", []
        )
        yield self._case(
            "the whole CCS",
            "forged controls, each as a single one, where permissions ask for no signature",
            "caps and draws",
            all_at_once,
        )
        for attack, spread_us in (
            ("cancels everything that runs, with the fleet's cap in use", self.policy.end_spread_us_max),
            ("withdraws every permission, with the fleet's cap in use", self.policy.withdraw_spread_us),
        ):
            yield self._case("the whole CCS", attack, "caps and draws", self._lets_all_go(spread_us))
        yield self._case(
            "the whole CCS",
            "holds back a signed campaign of the fleet's cap, and lets all of it through at once",
            "caps and draws",
            self._held_back(),
        )

    # --- without protections ----------------------------------------------------------------------------

    def _all_at_once(self) -> list[tuple[float, int]]:
        whole_w = self.homes * self.device_w
        return [(60.0, -whole_w), (float(TURN_S), whole_w)]

    # --- one key ----------------------------------------------------------------------------------------

    def _with_one_key(self, *, campaign: bool) -> list[tuple[float, bool, int]]:
        """Ask every second for as many homes as the caps let through; (start, single, W) of each."""
        logs: dict[str, FleetLog] = {key: FleetLog(key=key) for key in keys_of(PARTY, "north")}
        went: list[tuple[float, bool, int]] = []
        home = 0
        for second in range(60, TURN_S, 10):
            scales = Scales(logs, self.terms, second * US)
            while home < self.homes:
                load = self._load(home, second, campaign=campaign)
                weighed = scales.weigh(load, None)
                if weighed.over:
                    break
                went.append(
                    (second + self._draw_start_s(load, weighed.spread_s), not weighed.spread_s, self.device_w)
                )
                home += 1
        return went

    def _slowly(self) -> list[tuple[float, bool, int]]:
        """Stay under what makes a campaign, minute by minute, for as long as it goes unnoticed."""
        logs = {key: FleetLog(key=key) for key in keys_of(PARTY, "north")}
        went: list[tuple[float, bool, int]] = []
        each_minute = max(1, self.terms.campaign_w // self.device_w * 6 // 7)
        home = 0
        for second in range(60, TURN_S, 60):
            scales = Scales(logs, self.terms, second * US)
            for _ in range(each_minute):
                weighed = scales.weigh(self._load(home, second, campaign=False), None)
                home += 1
                if not weighed.over and not weighed.spread_s:
                    went.append((float(second), True, self.device_w))
        return went

    def _load(self, home: int, second: int, *, campaign: bool) -> Load:
        return Load(
            request=str(home),
            party=PARTY,
            area="north",
            subject=str(home),
            move=Move(0, self.device_w),
            begin_us=second * US,
            until_us=LASTS_S * US,
            campaign=campaign,
        )

    def _draw_start_s(self, load: Load, spread_s: int) -> float:
        command = _command(load, spread_s)
        room_us = start_room_us(command, load.begin_us, self.policy)
        return self.rng.randrange(room_us) / US if room_us else 0.0

    def _let_go(self, off: Sequence[tuple[float, bool, int]]) -> list[tuple[float, int]]:
        """All cancelled in one second: single ones go at once, the others at random."""
        span_us = self.policy.end_spread_us_max
        return [
            (max(start, TURN_S + (0.0 if single else self.rng.randrange(span_us) / US)), w)
            for start, single, w in off
        ]

    def _at_one_time(self, off: Sequence[tuple[float, bool, int]]) -> list[tuple[float, int]]:
        """All with the same end: each gateway draws its own."""
        ends = []
        for start, _, w in off:
            first_us, last_us = end_window_us(int(start * US), TURN_S * US, FAR_US, self.policy)
            ends.append((max(start, self.rng.randint(first_us, last_us) / US), w))
        return ends

    # --- the whole CCS ----------------------------------------------------------------------------------

    def _held(self) -> tuple[int, int]:
        """How many devices run under honest controls when the fleet's caps are in use: (in campaigns, single)."""
        whole = min(self.homes, self.terms.fleet.at_once_w // self.device_w)
        single = min(whole, self.terms.fleet.per_minute_w // self.device_w)
        return whole - single, single

    def _lets_all_go(self, spread_us: int) -> list[tuple[float, int]]:
        together, single = self._held()
        events: list[tuple[float, int]] = [(0.0, -(together + single) * self.device_w)]
        events.append((float(TURN_S), single * self.device_w))
        events += [(TURN_S + self.rng.randrange(spread_us) / US, self.device_w) for _ in range(together)]
        return events

    def _held_back(self) -> list[tuple[float, int]]:
        """What was signed as a campaign begins at random, whenever it comes and whatever is said with it."""
        together, single = self._held()
        load = self._load(0, 60, campaign=True)
        room_us = start_room_us(_command(load, 0), load.begin_us, self.policy)
        events = [(60 + self.rng.randrange(room_us) / US, -self.device_w) for _ in range(together)]
        return [*events, (60.0, -single * self.device_w)]

    def _case(
        self, attacker: str, attack: str, protections: str, events: Sequence[tuple[float, int]]
    ) -> Case:
        curve = _curve(events)
        steps = {name: steepest(curve, span) / 1e6 for name, span in WINDOWS_S.items()}
        return Case(
            attacker=attacker,
            attack=attack,
            protections=protections,
            moved_mw=(max(curve) - min(curve)) / 1e6,
            steps_mw={name: round(mw, 3) for name, mw in steps.items()},
            curve=[w / 1e6 for w in curve],
        )


def _begins(off: Sequence[tuple[float, bool, int]]) -> list[tuple[float, int]]:
    return [(start, -w) for start, _, w in off]


def _command(load: Load, spread_s: int) -> Command:
    """The control as a gateway gets it."""
    return Command(
        id=load.request,
        party=load.party,
        service_point="sp",
        scope=Scope.DEVICE,
        operation=Operation.TURN_OFF,
        grant="g",
        grant_version=1,
        charge_us=load.begin_us,
        act_before_us=load.begin_us + 55 * US,
        until_us=load.until_us,
        spread_s=spread_s,
        campaign=load.campaign,
    )


def _curve(events: Sequence[tuple[float, int]]) -> list[int]:
    """W off the usual at the end of each second, from the state before the first."""
    change = [0] * (LASTS_S + 1)
    before = sum(w for at, w in events if at <= 0)
    for at, w in events:
        if at > 0:
            change[min(LASTS_S, int(at) + 1)] += w
    curve, total = [], before
    for w in change:
        total += w
        curve.append(total)
    return curve


def steepest(curve: Sequence[int], span_s: int) -> int:
    """Return the greatest change within any ``span_s`` seconds, up or down."""
    return max((abs(b - a) for a, b in zip(curve, curve[span_s:], strict=False)), default=0)


def caps_of(terms: FleetTerms) -> dict[str, float]:
    """Return the caps in MW, for the report."""
    return {
        f"{name}_mw_{what}": w / (1000 * KW)
        for name, caps in (("party", terms.party), ("area", terms.area), ("fleet", terms.fleet))
        for what, w in (("per_minute", caps.per_minute_w), ("at_once", caps.at_once_w))
    }
