"""What was written down about a message, by each on its own: CCS, gateway, device, third party.

A step is ``ok`` only if its writer has it, with outcome ok, and at a time that is not before the step
before it. Gateway steps must stand in both, the gateway's log and the CCS's journal, with one time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from doorward.client import Journey, Request
from doorward.wire.steps import Step
from doorward.wire.times import from_rfc3339, to_rfc3339

JOURNAL = "CCS journal"
LOG = "gateway log"
FILE = "device file"
DEVICE = "device"
PARTY = "third party"
SKEW_US_MAX = 1_000_000
"""How far the clocks of two processes may differ, so that a hop seems to end before it began."""
AT_GATEWAY = (
    Step.GATEWAY_RECEIVED,
    Step.PASSED_TO_HAN,
    Step.DEVICE_ANSWERED,
    Step.ANSWER_RECEIVED,
    Step.PASSED_TO_CCS,
)
WAY = (
    Step.RECEIVED,
    Step.AUTHENTICATED,
    Step.AUTHORISED,
    Step.RECORDED,
    Step.DESTINATION_AUTHENTICATED,
    Step.PASSED_TO_GATEWAY,
    *AT_GATEWAY,
    Step.ANSWER_RECORDED,
    Step.TARGET_AUTHENTICATED,
    Step.TARGET_AUTHORISED,
    Step.HANDING_OVER,
    Step.HANDED_OVER,
)
"""The straight way, in the order in which it happens."""


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step, whether it was seen, when (RFC 3339, empty if never), and where it was read."""

    id: str
    ok: bool
    at: str
    seen_in: str
    what: str = ""
    why: str = ""


class Chapter(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario, or the refusals: one line of ``doorward tour --json``."""

    scenario: int | str
    ok: bool
    steps: list[Seen]

    @classmethod
    def of(cls, scenario: int | str, steps: Iterable[Seen]) -> "Chapter":
        """Return the chapter; it is ok when all of its steps are, and there are some."""
        seen = list(steps)
        return cls(scenario=scenario, ok=bool(seen) and all(step.ok for step in seen), steps=seen)


@dataclass(frozen=True)
class Trace:
    """All that was written down about one request.

    ``asked`` and ``had`` are the third party's own times: when it sent the request, when it had the answer.
    ``file`` has the device's own lines since ``asked``, by device.
    """

    request: Request
    journey: Journey
    log: list[dict[str, Any]]
    file: Mapping[str, list[dict[str, Any]]]
    asked_us: int
    had_us: int

    def step(self, id: str, step: Step) -> Seen:
        """Return how a step of the way was seen: in the gateway's log where it is the gateway's."""
        place = LOG if step in AT_GATEWAY else JOURNAL
        at_us, why = self._looked(step)
        return Seen(
            id=id, ok=not why, at=to_rfc3339(at_us) if at_us else "", seen_in=place, what=step.value, why=why
        )

    def _looked(self, step: Step) -> tuple[int, str]:
        at_us, why = self._journal(step)
        if why:
            return at_us, why
        if step in AT_GATEWAY:
            rows = [row for row in self.log if row["step"] == step and row["outcome"] == "ok"]
            if not rows:
                return 0, f"not in the gateway's log: {step}"
            if from_rfc3339(rows[0]["at"]) != at_us:
                return at_us, f"the gateway's log says {rows[0]['at']}, its receipt another time"
        return at_us, self._too_early(step, at_us)

    def _journal(self, step: Step) -> tuple[int, str]:
        """Return the time of the first such step in the CCS's journal, and what is wrong with it."""
        for entry in self.journey.steps:
            if entry.step == step:
                wrong = "" if entry.outcome == "ok" else f"{entry.outcome}: {entry.reason} {entry.detail}"
                return us_of(entry.at), wrong
        return 0, f"not in the CCS's journal: {step}"

    def _too_early(self, step: Step, at_us: int) -> str:
        """Times of one writer never go back; between two, no further than clocks may differ."""
        for earlier in WAY[: WAY.index(step)]:
            before_us, missing = self._journal(earlier)
            same = (earlier in AT_GATEWAY) == (step in AT_GATEWAY)
            if not missing and at_us < before_us - (0 if same else SKEW_US_MAX):
                return f"{step} was before {earlier}"
        if not self.asked_us - SKEW_US_MAX <= at_us <= self.had_us + SKEW_US_MAX:
            return f"{step} was not between the question and the answer"
        return ""

    def written(self, device: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """Return the first line of a device's own file, since the question, that shows what was asked for."""
        return next((line for line in self.file.get(device, []) if holds(line)), None)


def us_of(moment: datetime) -> int:
    """Return UTC microseconds of an aware time."""
    return from_rfc3339(moment.isoformat())


def seen(id: str, what: str, seen_in: str, at_us: int, why: str) -> Seen:
    """Return a step that was looked at; ``why`` says what was wrong with it, or is empty."""
    return Seen(id=id, ok=not why, at=to_rfc3339(at_us) if at_us else "", seen_in=seen_in, what=what, why=why)


def all_of(id: str, parts: Iterable[Seen]) -> Seen:
    """Return several looks at one step as one: where and when of the first, and the first thing wrong."""
    looks = list(parts)
    wrong = next((look for look in looks if not look.ok), None)
    return msgspec.structs.replace(wrong or looks[0], id=id)
