"""Walking a chain: is every link what it was, does it follow the one before, and do its rows match it?

Whatever is wrong is named as closely as the record allows: the writer, the link, the row, the field. Nothing
is trusted; the walk goes on behind a fault, from what stands there.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol
from zlib import crc32

from msgspec.structs import replace

from doorward.audit.findings import Finding, Kind, Report
from doorward.wire.chain import (
    Head,
    Link,
    Part,
    Row,
    beginning,
    changed_in,
    hash_of,
    mark_list,
    marks_of,
    root_of,
    text_of,
)

LINKS_TOGETHER = 200
ROWS_TOGETHER_MAX = 20_000
"""Rows of a page of links that are read at once; a link that claims more is read alone."""
ADDED_SHOWN_MAX = 20
REORDERED_MAX = 200


class Source(Protocol):
    """A record as an auditor reads it. ``columns`` are those that links cover; ``by_day`` says whether the
    second is the day of a part, ``unmarked`` which one has no mark."""

    name: str
    columns: tuple[str, ...]
    unmarked: int
    by_day: bool

    async def writers(self) -> list[int]:
        """Everybody who has links or rows."""
        ...

    def gone(self) -> int:
        """The last link that is rightly no longer kept (0: all are)."""
        ...

    async def last(self, writer: int) -> Head:
        """The newest link of a writer."""
        ...

    async def links(self, writer: int, after: int, limit: int) -> list[tuple[int, Link | None]]:
        """Links above a number, in order; ``None`` for one that cannot be read."""
        ...

    async def rows(self, writer: int, first: int, last: int, limit: int) -> list[tuple[int, Row]]:
        """Rows of links, each with its link's number, in order."""
        ...

    async def hashes(self, writer: int, seqs: Collection[int]) -> dict[int, bytes]:
        """The hashes of links, by number."""
        ...


class Follower(Protocol):
    """Whoever looks at rows and links as they go by."""

    async def follow(self, link: Link, rows: Sequence[Row]) -> None:
        """A link went by, with the rows that stand under it now."""
        ...


class Walk:
    """One chain, from a link on, to where it stood when the walk began."""

    def __init__(self, source: Source, writer: int, report: Report, erased: Collection[int]) -> None:
        self._source = source
        self._writer = writer
        self._report = report
        self._erased = erased
        self._day = 1 if source.by_day else None
        self._message = list(source.columns).index("message")
        self._at = list(source.columns).index("at_us")

    async def run(self, begin: Head, end: int, followers: Iterable[Follower] = ()) -> None:
        """Walk from behind ``begin`` to the link ``end``."""
        before = begin
        whom = list(followers)
        while before.seq < end:
            page = await self._source.links(self._writer, before.seq, LINKS_TOGETHER)
            page = [(seq, link) for seq, link in page if seq <= end]
            if not page:
                self._missing(before.seq + 1, end)
                return
            for part in _slices(page):
                before = await self._page(part, before, whom)

    async def _page(
        self, page: Sequence[tuple[int, Link | None]], before: Head, followers: Sequence[Follower]
    ) -> Head:
        first, last = before.seq + 1, page[-1][0]
        room = sum(link.rows for _, link in page if link is not None) + ROWS_TOGETHER_MAX
        under: dict[int, list[Row]] = {}
        for number, row in await self._source.rows(self._writer, first, last, room):
            under.setdefault(number, []).append(row)
        for at, (seq, link) in enumerate(page):
            if seq > before.seq + 1:
                self._missing(before.seq + 1, seq - 1)
                for lost in range(before.seq + 1, seq):
                    self._orphans(lost, under.pop(lost, []))
                before = self._unknown(seq - 1, before.epoch)
            rows = under.pop(seq, [])
            self._report.saw("links")
            self._report.saw("rows", len(rows))
            if link is None:
                self._say(Kind.CHANGED, "a link cannot be read", link=seq)
                before = self._unknown(seq, before.epoch)
                continue
            after = page[at + 1][1] if at + 1 < len(page) else None
            before = self._link(link, before, after, rows)
            for each in followers:
                await each.follow(link, rows)
        return before

    def _unknown(self, seq: int, epoch: int) -> Head:
        """The head of a link that is missing or cannot be read: nothing can be compared with it."""
        return Head(writer=self._writer, epoch=epoch, seq=seq, hash=b"")

    # ---- a link --------------------------------------------------------------------------------------

    def _link(self, link: Link, before: Head, after: Link | None, rows: Sequence[Row]) -> Head:
        """Look at a link; return the head that the next one has to name."""
        head = link.head
        hashed = hash_of(link)
        if hashed != link.hash:
            field = self._changed_field(link, before, rows)
            if after is not None and after.prev == hashed:
                field, head = "hash", Head(writer=head.writer, epoch=head.epoch, seq=head.seq, hash=hashed)
            self._say(Kind.CHANGED, "a link is not what its hash covers", link=link.seq, field=field)
        elif before.hash and link.prev != before.hash:
            self._say(
                Kind.REWRITTEN,
                f"the link follows another link {before.seq} than the one that stands here",
                link=link.seq,
                field="prev",
            )
        elif link.epoch < before.epoch:
            self._say(Kind.REWRITTEN, "the epoch goes back", link=link.seq, field="epoch")
        self._rows(link, rows)
        return head

    def _changed_field(self, link: Link, before: Head, rows: Sequence[Row]) -> str:
        """The one field that, put right, makes the hash right again; nothing where none does."""
        parts, lines = self._parts(rows)
        tries: list[tuple[str, dict[str, object]]] = [
            ("writer", {"writer": self._writer}),
            ("prev", {"prev": before.hash}),
            ("seq", {"seq": before.seq + 1}),
            ("epoch", {"epoch": before.epoch}),
            ("parts", {"parts": parts}),
            ("marks", {"marks": marks_of(lines, rows, self._source.unmarked)}),
            ("peers", {"peers": []}),
            *(("at_us", {"at_us": row[self._at]}) for row in rows[:1]),
        ]
        for field, right in tries:
            if hash_of(replace(link, **right)) == link.hash:
                return field
        return ""

    def _parts(self, rows: Sequence[Row]) -> tuple[list[Part], list[bytes]]:
        days: dict[int, list[bytes]] = {}
        for row in rows:
            days.setdefault(self._day_of(row), []).append(text_of(row))
        parts = [Part(day, len(texts), root_of(texts)) for day, texts in days.items()]
        return parts, [text for texts in days.values() for text in texts]

    def _day_of(self, row: Row) -> int:
        return 0 if self._day is None else row[self._day]

    # ---- its rows ------------------------------------------------------------------------------------

    def _rows(self, link: Link, rows: Sequence[Row]) -> None:
        wrong = [part for part in link.parts if not self._is_right(part, rows)]
        days = {part.day for part in link.parts}
        foreign = [row for row in rows if self._day_of(row) not in days]
        if not wrong and not foreign:
            return
        whole = all(part.day not in self._erased for part in link.parts)
        if not whole:
            for part in wrong:
                self._say(Kind.CHANGED, f"rows of day {part.day} are not what the link covers", link=link.seq)
            self._orphans(link.seq, foreign)
            return
        self._name(link, rows)

    def _is_right(self, part: Part, rows: Sequence[Row]) -> bool:
        mine = [row for row in rows if self._day_of(row) == part.day]
        if part.day in self._erased and len(mine) < part.rows:
            return True  # they are going, or gone, as its tombstone says
        return len(mine) == part.rows and root_of(text_of(row) for row in mine) == part.root

    def _name(self, link: Link, rows: Sequence[Row]) -> None:
        """Say which rows were changed, removed, added or put in another order, and in which field."""
        rows = self._in_order(link, rows)
        were = mark_list(link.marks)[: link.rows]
        are = mark_list(marks_of([text_of(row) for row in rows], rows, self._source.unmarked))[: len(rows)]
        if len(rows) == len(were):
            at, columns = changed_in(link.marks, rows, self._source.unmarked)
            if len(at) > 1 and self._reordered([rows[place] for place in at], {were[place] for place in at}):
                for place in at:
                    self._row(Kind.REORDERED, "rows have changed places", link.seq, rows[place], "seq")
                return
            fields = ", ".join(self._source.columns[place] for place in columns)
            for place in at:
                self._row(Kind.CHANGED, "a row was changed", link.seq, rows[place], fields)
            if not at:
                self._say(Kind.CHANGED, "rows were changed", link=link.seq, field=fields)
            return
        gone = Counter(were) - Counter(are)
        extra = Counter(are) - Counter(were)
        for place, mark in enumerate(were, 1):
            if gone[mark]:
                gone[mark] -= 1
                self._say(Kind.REMOVED, f"row {place} of {len(were)} of the link is gone", link=link.seq)
        for row, mark in zip(rows, are, strict=True):
            if extra[mark]:
                extra[mark] -= 1
                self._row(Kind.ADDED, "a row was added, or changed", link.seq, row)

    def _reordered(self, rows: Sequence[Row], were: set[int]) -> bool:
        """Whether each of these rows is what it was but for its number, which another of them has now."""
        if len(rows) > REORDERED_MAX:
            return False
        numbers = [row[0] for row in rows]
        return all(
            any(crc32(text_of((number, *row[1:]))) in were for number in numbers if number != row[0])
            for row in rows
        )

    def _in_order(self, link: Link, rows: Sequence[Row]) -> list[Row]:
        """Rows as the link holds them: by its days, then by number."""
        order = {part.day: place for place, part in enumerate(link.parts)}
        return sorted(rows, key=lambda row: (order.get(self._day_of(row), len(order)), row[0]))

    def _missing(self, first: int, last: int) -> None:
        many = "a link is" if first == last else f"links up to {last} are"
        self._say(Kind.REMOVED, f"{many} missing", link=first)

    def _orphans(self, link: int, rows: Sequence[Row]) -> None:
        for row in rows[:ADDED_SHOWN_MAX]:
            self._row(Kind.ADDED, "a row stands under a link that does not cover it", link, row)

    def _row(self, kind: Kind, says: str, link: int, row: Row, field: str = "") -> None:
        self._report.add(
            Finding(
                kind=kind,
                record=self._source.name,
                says=says,
                writer=self._writer,
                link=link,
                row=row[0],
                field=field,
                message=str(row[self._message]),
            )
        )

    def _say(self, kind: Kind, says: str, *, link: int, field: str = "") -> None:
        self._report.add(
            Finding(
                kind=kind, record=self._source.name, says=says, writer=self._writer, link=link, field=field
            )
        )


def _slices(page: Sequence[tuple[int, Link | None]]) -> Iterable[Sequence[tuple[int, Link | None]]]:
    """Cut a page so that no slice covers more rows than are read at once."""
    begin, rows = 0, 0
    for at, (_, link) in enumerate(page):
        count = link.rows if link is not None else 0
        if at > begin and rows + count > ROWS_TOGETHER_MAX:
            yield page[begin:at]
            begin, rows = at, 0
        rows += count
    yield page[begin:]


async def rows_beyond(source: Source, writer: int, report: Report) -> None:
    """Rows under links that the chain does not have (any more)."""
    walk = Walk(source, writer, report, ())
    for first, last in ((-(2**62), 0), ((await source.last(writer)).seq + 1, 2**62)):
        rows = await source.rows(writer, first, last, ADDED_SHOWN_MAX)
        end = (await source.last(writer)).seq  # a record that is being written has grown meanwhile
        for link, row in rows:
            if not 1 <= link <= end:
                walk._row(Kind.ADDED, "a row stands under a link that is not there", link, row)


async def first_since(source: Source, writer: int, since_us: int) -> Head:
    """Return the link behind which a walk begins that looks at what was written since a time."""
    low, high = 0, (await source.last(writer)).seq
    found = beginning(writer)
    while low < high:
        middle = (low + high) // 2
        page = await source.links(writer, middle, 1)
        seq, link = page[0] if page else (high, None)
        if link is not None and seq <= high and link.at_us < since_us:
            low, found = seq, link.head
        else:
            high = middle
    return found


async def verify_heads(source: Source, said: Iterable[Head], by: str, report: Report) -> None:
    """Whether the links that others hold of a record still stand in it (what was cut off, or written anew)."""
    writers: dict[int, dict[int, Head]] = {}
    for head in said:
        writers.setdefault(head.writer, {})[head.seq] = head
    for writer, heads in writers.items():
        stand = await source.hashes(writer, list(heads))
        for seq, head in heads.items():
            report.saw("heads")
            if stand.get(seq) == head.hash or seq <= source.gone():
                continue
            there = seq in stand
            report.add(
                Finding(
                    kind=Kind.REWRITTEN if there else Kind.TRUNCATED,
                    record=source.name,
                    says=f"{by} holds another link of this number"
                    if there
                    else f"{by} holds a link that is not here (any more)",
                    writer=writer,
                    link=seq,
                )
            )
