"""Homes by the words of what belongs to them: every word is looked up by its beginning, in an index."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, delete, intersect, select, union

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import SKIP, Flavour, Statement, exactly, inserting, number, words
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.facts import live
from doorward.ccs.rules.facts import LinkKind
from doorward.ccs.rules.searching import ASKED_MAX, LAST, Found, words_of

_w = t.search_word.c
_held = t.links[LinkKind.CUSTOMER_ACCOUNT]
_lived = t.links[LinkKind.ACCOUNT_SERVICE_POINT]


def _homes(at: int) -> FromClause:
    """Service points that are found by the ``at``-th word; from the words on, every join goes by an index."""
    placed, served = t.at_service_point, t.at_gateway
    begins = (_w.word >= words(f"from_{at}")) & (_w.word < words(f"to_{at}"))

    def of(kind: Found) -> ColumnElement[bool]:
        return begins & (_w.kind == exactly(kind))

    return union(
        select(_w.thing.label("point")).where(of("service_point")),
        select(_lived.c.b).join(t.search_word, _w.thing == _lived.c.a).where(of("account"), live(_lived)),
        select(_lived.c.b)
        .join(_held, _held.c.b == _lived.c.a)
        .join(t.search_word, _w.thing == _held.c.a)
        .where(of("customer"), live(_held), live(_lived)),
        select(placed.c.b).join(t.search_word, _w.thing == placed.c.a).where(of("device"), live(placed)),
        select(served.c.a).where(served.c.b == words("whole"), live(served)),
    ).subquery(f"found_{at}")


def _find(count: int) -> Statement:
    def build(_: Flavour) -> Select[Any]:
        by_all = intersect(*(select(_homes(at).c.point) for at in range(count))) if count > 1 else None
        found = _homes(0) if by_all is None else by_all.subquery("found")
        return (
            select(found.c.point)
            .where(found.c.point > words("after"))
            .order_by(found.c.point)
            .limit(number("limit"))
        )

    bounds = [name for at in range(count) for name in (f"from_{at}", f"to_{at}")]
    return Statement(build, "after", "limit", "now", "whole", *bounds)


FIND = {count: _find(count) for count in range(1, ASKED_MAX + 1)}
PUT_WORDS = inserting(t.search_word, ("word", "kind", "thing"), SKIP)
DROP_WORDS = Statement(
    lambda f: delete(t.search_word).where(_w.kind == words("kind"), f.any_of(_w.thing, "things")),
    "kind",
    "things",
)


class Searching(Part):
    """Keeping words, and finding homes by them."""

    async def keep_words(self, kind: Found, things: Mapping[str, Collection[str]]) -> None:
        """Keep what things are found by: thing → its texts; what was kept of them before is dropped."""
        if not things:
            return
        await self._on.do(DROP_WORDS, kind, list(things))
        rows = [(word, kind, thing) for thing, texts in things.items() for word in words_of(texts)]
        await self._on.many(PUT_WORDS, rows)

    async def find_homes(self, words: Sequence[str], *, after: str = "", limit: int = 50) -> list[str]:
        """Service points that are found by all words, in the order of their ids, after one."""
        bounds = [bound for word in words for bound in (word, word + LAST)]
        whole = words[0].upper() if len(words) == 1 else ""
        rows = await self._on.rows(FIND[len(words)], after, limit, self._now_us, whole, *bounds)
        return [row[0] for row in rows]
