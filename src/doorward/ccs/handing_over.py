"""Answers for those who hold the line: each is authenticated and authorised again, in this transaction.

S1.12–S1.17, S2.13–S2.18. By webhook the same is decided in ``pushing``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from doorward.ccs import way_back
from doorward.ccs.callers import authenticate_all, pair_of, targets
from doorward.ccs.ports import Books
from doorward.ccs.rules.facts import JournalRow, Request, StepRecord
from doorward.ccs.rules.identity import TokenReader, scope_missing
from doorward.wire.reasons import Reason, Refused


@dataclass(frozen=True, slots=True)
class Fetch:
    """Somebody asks for a request with a live token, and by which channel its answer would leave."""

    token: str
    request: str
    channel: str


@dataclass(slots=True)
class Handed:
    """What each of those who asked gets, and what that makes of the requests."""

    answers: list[Request | Exception] = field(default_factory=list)
    changed: dict[str, Request] = field(default_factory=dict)
    steps: dict[str, list[StepRecord]] = field(default_factory=dict)

    def journal(self, now_us: int) -> list[JournalRow]:
        """A row for each request that was handed over or withheld."""
        return [way_back.journal_of(self.changed[id], steps, now_us) for id, steps in self.steps.items()]


async def hand_over_all(
    books: Books, tokens: TokenReader, asked: Sequence[Fetch], found: Mapping[str, Request], now_us: int
) -> Handed:
    """Decide for everybody who asked; ``found`` are the requests, locked. A refusal is an answer too."""
    callers = await authenticate_all(books, tokens, [fetch.token for fetch in asked], now_us)
    places, grants = await targets(books, found.values(), now_us)
    handed = Handed()
    for fetch, caller in zip(asked, callers, strict=True):
        request = handed.changed.get(fetch.request) or found.get(fetch.request)
        if isinstance(caller, Refused):
            handed.answers.append(caller)
        elif fetch.channel != "wait" and "monitor" not in caller.scopes:
            handed.answers.append(scope_missing("monitor"))
        elif request is None or request.party != caller.party.id:
            handed.answers.append(Refused(Reason.NOT_FOUND))
        else:
            place, grant = places.get(request.service_point), grants.get(pair_of(request))
            decided = way_back.hand_over(request, caller.party, place, grant, fetch.channel, now_us)
            over, steps, shown = way_back.close_hand_over(*decided, fetch.channel, now_us)
            handed.answers.append(shown)
            if steps:
                handed.changed[over.id] = over
                handed.steps.setdefault(over.id, []).extend(steps)
    return handed
