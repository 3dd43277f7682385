"""What an audit finds, and how it says so."""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum

import msgspec

KEPT_MAX = 1_000
"""Findings that are kept one by one; the others are counted."""
CCS = "CCS"


class Kind(StrEnum):
    """What may be wrong with a record."""

    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"
    FORGED = "forged"
    DIFFERENT = "different"
    MISSING = "missing"
    UNCOVERED = "uncovered"


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is not as it must be, and where: which record, whose chain, which link, row and field."""

    kind: Kind
    record: str
    says: str
    writer: int = 0
    link: int = 0
    row: int = 0
    field: str = ""
    message: str = ""

    def sentence(self) -> str:
        """Return it for people."""
        where = [self.record]
        if self.writer:
            where.append(f"writer {self.writer}")
        if self.link:
            where.append(f"link {self.link}")
        if self.row:
            where.append(f"row {self.row}")
        if self.field:
            where.append(f"field {self.field}")
        if self.message:
            where.append(f"message {self.message}")
        return f"{self.kind.value.upper()}: {self.says} ({', '.join(where)})"


class Report(msgspec.Struct, kw_only=True):
    """What an audit looked at and what it found."""

    findings: list[Finding] = []
    counted: dict[str, int] = {}
    """All findings, by kind, also those that are not kept one by one."""
    looked: dict[str, int] = {}
    """Of what it looked at how many."""
    notes: list[str] = []

    def add(self, finding: Finding) -> None:
        """Keep a finding, or count it."""
        self.counted[finding.kind.value] = self.counted.get(finding.kind.value, 0) + 1
        if len(self.findings) < KEPT_MAX:
            self.findings.append(finding)

    def saw(self, what: str, count: int = 1) -> None:
        """Count what was looked at."""
        self.looked[what] = self.looked.get(what, 0) + count

    def note(self, words: str) -> None:
        """Say something that is no fault, once."""
        if words not in self.notes and len(self.notes) < KEPT_MAX:
            self.notes.append(words)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.counted

    def view(self) -> dict[str, object]:
        """Return it for machines."""
        return {
            "sound": self.sound,
            "looked_at": self.looked,
            "found": self.counted,
            "findings": self.findings,
            "notes": self.notes,
        }

    def sentences(self) -> Iterator[str]:
        """Return it for people."""
        for finding in self.findings:
            yield finding.sentence()
        more = sum(self.counted.values()) - len(self.findings)
        if more > 0:
            yield f"… and {more} more"
        for words in self.notes:
            yield f"Note: {words}"
        looked = ", ".join(f"{count} {what}" for what, count in self.looked.items())
        yield f"Looked at {looked}." if looked else "There was nothing to look at."
        if self.sound:
            yield "Both records are whole, they agree, and permission stood for all that was delivered."
        else:
            kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(self.counted).most_common())
            yield f"The record is NOT sound: {kinds}."
