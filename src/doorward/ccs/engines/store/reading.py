"""What third parties read: their requests, journeys, grants, credentials."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, or_, select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Flavour, Statement, exactly, number, words
from doorward.ccs.engines.store.accept import REQUEST
from doorward.ccs.engines.store.base import DAY_US, Part
from doorward.ccs.engines.store.chain import JOURNAL
from doorward.ccs.engines.store.facts import GRANT
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.rules.facts import Credential, Grant, JournalRow, Request
from doorward.kit.ids import time_of_us

CREDENTIAL = RowsOf(Credential, t.credential)
_c = t.request.c
AFTER_ALL = "~"
"""Greater than any id."""


def _list(flavour: Flavour, *more: Any) -> Select[Any]:
    """Newest first. An empty filter lets everything pass."""
    return (
        select(*REQUEST.columns)
        .where(_c.party == words("party"), _c.id < words("before"), *more)
        .where(or_(words("device") == exactly(""), _c.device == words("device")))
        .where(or_(words("service_point") == exactly(""), _c.service_point == words("service_point")))
        .where(or_(number("any_state") == exactly(1), flavour.any_of(_c.state, "states")))
        .order_by(_c.id.desc())
        .limit(number("limit"))
    )


_FILTERS = ("party", "before", "device", "service_point", "any_state", "states", "limit")
LIST = Statement(_list, *_FILTERS)
LIST_CAMPAIGN = Statement(
    lambda f: _list(f, _c.campaign == words("campaign"), _c.campaign != exactly("")), *_FILTERS, "campaign"
)
JOURNEY = Statement(
    lambda _: (
        select(*JOURNAL.columns)
        .where(t.journal.c.day == number("day"), t.journal.c.message == words("message"))
        .order_by(t.journal.c.seq)
    ),
    "day",
    "message",
)
GRANTS_OF = Statement(
    lambda _: (
        select(*GRANT.columns)
        .where(t.grant.c.party == words("party"), t.grant.c.sequence > number("after"))
        .order_by(t.grant.c.sequence)
        .limit(number("limit"))
    ),
    "party",
    "after",
    "limit",
)
CREDENTIALS = Statement(
    lambda _: (
        select(*CREDENTIAL.columns)
        .where(t.credential.c.party == words("party"), t.credential.c.not_after_us > number("now"))
        .order_by(t.credential.c.id)
    ),
    "party",
    "now",
)


class Reading(Part):
    """Reads by those who ask later."""

    async def list_requests(
        self,
        party: str,
        *,
        after: str = "",
        limit: int = 50,
        states: Collection[str] = (),
        device: str = "",
        service_point: str = "",
        campaign: str = "",
    ) -> list[Request]:
        """Requests of a party, newest first, older than the id ``after``."""
        before = after or AFTER_ALL
        filters = (party, before, device, service_point, 0 if states else 1, states, limit)
        if campaign:
            rows = await self._on.rows(LIST_CAMPAIGN, *filters, campaign)
        else:
            rows = await self._on.rows(LIST, *filters)
        return [REQUEST.load(row) for row in rows]

    async def journal(self, message: str) -> list[JournalRow]:
        """All rows of one message, in the order in which they were written; none for what is no message id."""
        try:
            day = time_of_us(message) // DAY_US
        except ValueError:
            return []
        return [JOURNAL.load(row) for row in await self._on.rows(JOURNEY, day, message)]

    async def grants_of(self, party: str, *, after: int = -1, limit: int = 100) -> list[Grant]:
        """Grants of a party ordered by ``sequence``, after a sequence number."""
        return [GRANT.load(row) for row in await self._on.rows(GRANTS_OF, party, after, limit)]

    async def credentials(self, party: str) -> list[Credential]:
        """Credentials of a party that have not ended."""
        return [CREDENTIAL.load(row) for row in await self._on.rows(CREDENTIALS, party, self._now_us)]
