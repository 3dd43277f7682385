"""The hash chain of a record: each link covers the rows of one transaction and names the link before it.

A record is kept by one or more *writers*, each with a chain of its own, ``seq`` 1, 2, 3 … without a gap.
``epoch`` rises whenever another process (or a restored copy) goes on with a chain. A chain alone shows edits
and holes; that its end was cut off shows by its *heads*, which the other side keeps (docs/adr/0009).

One SHA-256 covers all rows of a link. The marks, 32-bit sums of every row and every column, are there to
name what was changed; they prove nothing.
"""

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any
from zlib import crc32

import msgspec

Row = tuple[Any, ...]
"""Numbers and texts of one row of a journal, its own number first."""

HASH_BYTES = 32
NOTHING = bytes(HASH_BYTES)
"""What the first link of a writer names as the one before it."""
MARK_BYTES = 4
HEADS_MAX = 64
"""Heads in one frame; of more, the last are kept."""


class Head(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The newest link of a writer: who holds it holds the whole chain up to it."""

    writer: int = 1
    epoch: int
    seq: int
    hash: bytes


class PeerHead(msgspec.Struct, frozen=True, array_like=True):
    """What the other side said of its own record: ``name`` is a gateway, or empty for the CCS."""

    name: str
    writer: int
    epoch: int
    seq: int
    hash: bytes

    @property
    def head(self) -> Head:
        """The head that it names."""
        return Head(writer=self.writer, epoch=self.epoch, seq=self.seq, hash=self.hash)


class Part(msgspec.Struct, frozen=True, array_like=True):
    """The rows of one day in a link, so that a day may be dropped and the others still be verified."""

    day: int
    rows: int
    root: bytes


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One link. ``hash`` covers everything else in it; ``peers`` are the heads that came with what it records."""

    writer: int
    epoch: int
    seq: int
    at_us: int
    prev: bytes
    parts: list[Part]
    marks: bytes
    peers: list[PeerHead]
    hash: bytes

    @property
    def head(self) -> Head:
        """What others need to hold of it."""
        return Head(writer=self.writer, epoch=self.epoch, seq=self.seq, hash=self.hash)

    @property
    def rows(self) -> int:
        """How many rows it covers."""
        return sum(part.rows for part in self.parts)


_encode = msgspec.json.Encoder().encode


def beginning(writer: int) -> Head:
    """Return what the first link of a writer follows."""
    return Head(writer=writer, epoch=0, seq=0, hash=NOTHING)


def seal(
    before: Head,
    epoch: int,
    at_us: int,
    days: Mapping[int, Sequence[Row]],
    peers: Iterable[PeerHead] = (),
    *,
    unmarked: int,
) -> Link:
    """Return the link that follows ``before`` and covers rows by their day, each day's in the order of numbers.

    ``unmarked`` is the column that has no mark: the longest, which is known to be it when no other is.
    """
    parts: list[Part] = []
    lines: list[bytes] = []
    all_rows: list[Row] = []
    for day, rows in days.items():
        texts = [_encode(row) for row in rows]
        parts.append(Part(day, len(texts), sha256(b"".join(texts)).digest()))
        lines += texts
        all_rows += rows
    marks = marks_of(lines, all_rows, unmarked)
    said = list(peers)
    seq = before.seq + 1
    hashed = _hash(before.writer, epoch, seq, at_us, before.hash, parts, marks, said)
    return Link(
        writer=before.writer,
        epoch=epoch,
        seq=seq,
        at_us=at_us,
        prev=before.hash,
        parts=parts,
        marks=marks,
        peers=said,
        hash=hashed,
    )


def hash_of(link: Link) -> bytes:
    """Return the hash that a link must have."""
    return _hash(link.writer, link.epoch, link.seq, link.at_us, link.prev, link.parts, link.marks, link.peers)


def _hash(
    writer: int,
    epoch: int,
    seq: int,
    at_us: int,
    prev: bytes,
    parts: list[Part],
    marks: bytes,
    peers: list[PeerHead],
) -> bytes:
    return sha256(prev + _encode((writer, epoch, seq, at_us, parts, peers)) + marks).digest()


def text_of(row: Row) -> bytes:
    """Return a row as it is hashed: a JSON list, so that no two rows have the same text."""
    return _encode(row)


def root_of(texts: Iterable[bytes]) -> bytes:
    """Return the hash of rows in their order."""
    return sha256(b"".join(texts)).digest()


def marks_of(texts: Sequence[bytes], rows: Sequence[Row], unmarked: int) -> bytes:
    """Return the sums of all rows, then of all columns but one."""
    sums = array("I", map(crc32, texts))
    columns = list(zip(*rows, strict=True))
    del columns[unmarked : unmarked + 1]
    sums.extend(map(crc32, map(_encode, columns)))
    return _little(sums).tobytes()


def mark_list(marks: bytes) -> list[int]:
    """Return marks as numbers; those of a length that none has are none."""
    if len(marks) % MARK_BYTES:
        return []
    sums = array("I")
    sums.frombytes(marks)
    return list(_little(sums))


def _little(sums: "array[int]") -> "array[int]":
    """The sums in little-endian order, whatever the machine's is."""
    if sys.byteorder == "big":
        sums.byteswap()
    return sums


def changed_in(marks: bytes, rows: Sequence[Row], unmarked: int) -> tuple[list[int], list[int]]:
    """Return the places of the rows, and of the columns, that are not what the marks say.

    Only where there are as many rows as there were; otherwise both are empty.
    """
    then = mark_list(marks)
    now = mark_list(marks_of([_encode(row) for row in rows], rows, unmarked))
    if len(then) != len(now):
        return [], []
    wrong = [at for at, (was, is_) in enumerate(zip(then, now, strict=True)) if was != is_]
    count = len(rows)
    changed = [at for at in wrong if at < count]
    columns = [at - count for at in wrong if at >= count]
    columns = [at + 1 if at >= unmarked else at for at in columns]
    return changed, columns or ([unmarked] if changed else [])


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All writers' heads at one moment; signed as compact JWS of the CCS's record key.

    ``prev`` is the SHA-256 of the checkpoint before it, as it was signed.
    """

    number: int
    at_us: int
    prev: bytes
    heads: list[Head]


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """Why rows of a day are gone: their time had come. Signed like a checkpoint.

    ``rows`` is how many there were; their links stay, and still name their digests.
    """

    day: int
    rows: int
    at_us: int
    prev: bytes


CHECKPOINT = "checkpoint"
TOMBSTONE = "tombstone"
"""The ``typ`` of the signed documents."""


def digest_of(document: str) -> bytes:
    """Return the SHA-256 of a signed document, as the next one names it."""
    return sha256(document.encode()).digest()


def payload_digest(salt: str, payload: bytes) -> str:
    """Return what the journal holds of a payload that stands outside it: salted, so that once payload and
    salt are erased nobody can find out by trying what it was. Nothing for no payload (``null``)."""
    if payload == b"null":
        return ""
    return sha256(salt.encode() + b"\n" + payload).hexdigest()
