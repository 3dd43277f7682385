"""The one judge of all faults: four ledgers, written independently, compared as sets. Pure.

The third party's own list, the CCS's books, the gateways' own stores, and the devices' own files. Every
control asks for a power that no other asks for, so that a device's file says which request it acted on.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

FINAL = frozenset({"DONE", "FAILED", "REFUSED", "EXPIRED", "CANCELLED", "UNCONFIRMED"})
NEVER_ACTED = frozenset({"REFUSED", "EXPIRED", "CANCELLED"})
ENDS = ("answer_recorded", "expired", "cancel_asked")
"""The steps that give a request its final state."""
EXAMPLES_MAX = 3

Power = tuple[str, int]
"""A device, and the power in W that one request alone asks of it."""


@dataclass(kw_only=True)
class Told:
    """A line of the third party's list: one request, under a key of its own.

    ``id`` is what a 202 named. Without one, ``refused`` has the reason of a definite refusal; without
    either, nobody told the third party whether it was accepted.
    """

    key: str
    power: Power
    id: str = ""
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Booked:
    """A request as the CCS's books have it. ``steps`` are (step, detail) in the order of the journal.

    What is no ``control`` (a reading, with which a fault looks around) is on nobody's list.
    """

    id: str
    control: bool = True
    key: str
    state: str
    settlement: str = ""
    due_us: int = 0
    final_us: int = 0
    steps: tuple[tuple[str, str], ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether the books say that the device did it."""
        return "DONE" in (self.state, self.settlement)

    @property
    def is_not_done(self) -> bool:
        """Whether the books say that the device did not do it."""
        return self.state in NEVER_ACTED or self.settlement == "NOT_DONE"


@dataclass(kw_only=True)
class Ledgers:
    """All four. ``gateways`` has the states in the gateways' inboxes by request, ``told_devices`` how often
    a gateway's journal says that a request was passed to the home; ``acts`` when a device took a power, by the
    device's own clock (UTC microseconds).
    """

    third_party: list[Told]
    books: list[Booked]
    gateways: Mapping[str, str]
    told_devices: Mapping[str, int]
    acts: Mapping[Power, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``broken``: promise → examples of where it does not hold; empty when everything holds."""

    asked: int
    accepted: int
    refused: int
    unsure: int
    states: dict[str, int]
    settled: int
    acts: int
    broken: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether every promise held."""
        return not self.broken

    def words(self) -> str:
        """The verdict in a line."""
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        head = f"{self.accepted} of {self.asked} accepted ({states}), {self.acts} acts"
        if self.refused or self.unsure:
            head += f"; {self.refused} refused, {self.unsure} without an answer"
        if self.sound:
            return f"{head}: nothing lost, nothing twice"
        return f"{head}: BROKEN: " + "; ".join(
            f"{promise}: {len(where)} (as {', '.join(where[:EXAMPLES_MAX])})"
            for promise, where in self.broken.items()
        )


def judge(
    ledgers: Ledgers, *, late_us_max: int, refusals: Iterable[str] = (), sent_late: bool = False
) -> Verdict:
    """Compare the ledgers.

    ``late_us_max``: how long after its deadline a request may get its final state (as long as nobody was
    there to give it). ``refusals``: reasons for which the third party may have been refused. ``sent_late``:
    the books were set back, so that they need not explain all that the home did.
    """
    allowed = set(refusals)
    broken: dict[str, list[str]] = {}
    for promise, where in _all(ledgers, late_us_max, allowed, sent_late):
        broken.setdefault(promise, []).append(where)
    own = {told.key for told in ledgers.third_party}
    return Verdict(
        asked=len(ledgers.third_party),
        accepted=sum(bool(told.id) for told in ledgers.third_party),
        refused=sum(bool(told.refused) for told in ledgers.third_party),
        unsure=sum(not told.id and not told.refused for told in ledgers.third_party),
        states=dict(Counter(booked.state for booked in ledgers.books if booked.key in own)),
        settled=sum(bool(booked.settlement) for booked in ledgers.books),
        acts=sum(map(len, ledgers.acts.values())),
        broken=broken,
    )


Findings = Iterator[tuple[str, str]]


def _all(ledgers: Ledgers, late_us_max: int, refusals: set[str], sent_late: bool) -> Findings:
    yield from _accepted(ledgers, refusals)
    yield from _ended(ledgers.books, late_us_max)
    yield from _acted(ledgers)
    yield from _gateway(ledgers)
    if not sent_late:
        yield from _explained(ledgers.books)


def _accepted(ledgers: Ledgers, refusals: set[str]) -> Findings:
    """A 202 is in the books, as itself and once; a refusal is not; and nothing is there that nobody asked."""
    by_key: dict[str, list[Booked]] = {}
    for booked in ledgers.books:
        by_key.setdefault(booked.key, []).append(booked)
    ids = {booked.id for booked in ledgers.books}
    asked = {told.key for told in ledgers.third_party}
    for told in ledgers.third_party:
        found = by_key.get(told.key, [])
        if told.id and told.id not in ids:
            yield "an accepted request is in the books", told.key
        elif len(found) > 1 or (told.id and found[0].id != told.id):
            yield "one key is one request", told.key
        if told.refused and found:
            yield "what was refused was not accepted", f"{told.key} ({told.refused})"
        if told.refused and told.refused not in refusals:
            yield "nothing is refused without a reason", f"{told.key} ({told.refused})"
    for key in {booked.key for booked in ledgers.books if booked.control} - asked:
        yield "nothing is in the books that nobody asked", key or "(no key)"


def _ended(books: Sequence[Booked], late_us_max: int) -> Findings:
    for booked in books:
        if booked.state not in FINAL:
            yield "every request has a final state", f"{booked.key} is {booked.state}"
        elif booked.final_us > booked.due_us + late_us_max:
            late_s = (booked.final_us - booked.due_us) / 1e6
            yield "every request ends by its deadline", f"{booked.key} was {late_s:.1f} s late"


def _acted(ledgers: Ledgers) -> Findings:
    """At most one act per request; said to be done exactly when it acted; no act that nobody asked."""
    powers = {told.key: told.power for told in ledgers.third_party}
    for (device, watts), times in ledgers.acts.items():
        if len(times) > 1:
            yield "a device acts at most once", f"{device} took {watts} W {len(times)} times"
    for booked in ledgers.books:
        power = powers.get(booked.key)
        if power is None:
            continue
        acted = ledgers.acts.get(power, ())
        if booked.is_done and not acted:
            yield "DONE means that the device acted", booked.key
        if booked.is_not_done and acted:
            yield "what is said not to be done was not done", f"{booked.key} is {booked.state}"
        if any(at_us > booked.due_us for at_us in acted):
            late_s = (max(acted) - booked.due_us) / 1e6
            yield "nothing is done after its deadline", f"{booked.key} was done {late_s:.1f} s late"
    booked_powers = {powers[booked.key] for booked in ledgers.books if booked.key in powers}
    for device, watts in ledgers.acts.keys() - booked_powers:
        yield "no device acts without a request in the books", f"{device} took {watts} W"


def _gateway(ledgers: Ledgers) -> Findings:
    """What a gateway wrote down and what the books say of it is the same; and it told its devices once."""
    books = {booked.id: booked for booked in ledgers.books}
    for id, state in ledgers.gateways.items():
        booked = books.get(id)
        if booked is None:
            yield "a gateway knows nothing that the books do not", id
        elif state == "DONE" and not booked.is_done:
            yield "what a gateway says reaches the books", f"{booked.key}: DONE there, {booked.state} here"
        elif booked.is_done and state != "DONE":
            yield "the books say nothing that the gateway does not", f"{booked.key}: {state} there"
        elif state not in FINAL and state != "UNKNOWN":
            yield "every request ends at its gateway", f"{booked.key} is {state} there"
    for booked in ledgers.books:
        if booked.is_done and booked.id not in ledgers.gateways:
            yield "the books say nothing that the gateway does not", f"{booked.key}: unknown there"
    for id, count in ledgers.told_devices.items():
        if count > 1:
            yield "a gateway tells its device once", id


def _explained(books: Sequence[Booked]) -> Findings:
    """The journal explains every state: accepted once, first of all; ended once; sent before it was done."""
    for booked in books:
        steps = [step for step, _ in booked.steps]
        if steps.count("recorded") != 1:
            yield "the journal has every acceptance once", f"{booked.key}: {steps.count('recorded')} times"
        ends = [detail for step, detail in booked.steps if step in ENDS[:2]]
        cancelled = booked.state == "CANCELLED" and ENDS[2] in steps
        if booked.state in FINAL and ends != [booked.state] and not (cancelled and not ends):
            yield "the journal has every end once", f"{booked.key} is {booked.state}, the journal says {ends}"
        if booked.is_done and "passed_to_gateway" not in steps:
            yield "the journal has every sending", booked.key
