"""How things are written for people: times, amounts, states with their icon and colour."""

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from doorward.ccs.rules import wording
from doorward.wire.reasons import SENTENCES, Reason

REFERENCE_LETTERS = 6


def local(us: int, zone: str) -> datetime:
    """Return a moment in a time zone."""
    return datetime.fromtimestamp(us / 1_000_000, UTC).astimezone(ZoneInfo(zone))


def time_of(us: int, zone: str, *, seconds: bool = False) -> str:
    """Return the time of day: ``4:02 pm``."""
    at = local(us, zone)
    tail = f":{at:%S}" if seconds else ""
    return f"{at.hour % 12 or 12}:{at:%M}{tail} {'am' if at.hour < 12 else 'pm'}"


def day_of(us: int, zone: str) -> str:
    """Return the day: ``3 March 2026``."""
    at = local(us, zone)
    return f"{at.day} {at:%B %Y}"


def short_day(us: int, zone: str) -> str:
    """Return the day for narrow places: ``3 Mar 26``."""
    at = local(us, zone)
    return f"{at.day} {at:%b %y}"


def when(us: int, zone: str, now_us: int) -> str:
    """Return a moment as near as it is told: the time today, else the day with the time."""
    if local(us, zone).date() == local(now_us, zone).date():
        return time_of(us, zone)
    return f"{day_of(us, zone)}, {time_of(us, zone)}"


def day_name(us: int, zone: str, now_us: int) -> str:
    """Return a heading for a day: ``Today``, ``Yesterday``, or the date with its weekday."""
    at, now = local(us, zone).date(), local(now_us, zone).date()
    days = (now - at).days
    if days == 0:
        return "Today"
    return "Yesterday" if days == 1 else f"{at:%A}, {at.day} {at:%B %Y}"


def iso(us: int) -> str:
    """Return a moment for machines, as ``<time datetime>`` wants it."""
    return (
        datetime.fromtimestamp(us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def date_field(us: int, zone: str) -> str:
    """Return a day as a date field holds it."""
    return local(us, zone).date().isoformat()


def lasted(us: int) -> str:
    """Return a duration: ``12 ms``, ``0.40 s``, ``3 min 5 s``."""
    if us < 100_000:
        return f"{us / 1000:.0f} ms"
    if us < 60_000_000:
        return f"{us / 1_000_000:.2f} s" if us < 10_000_000 else f"{us / 1_000_000:.0f} s"
    minutes, seconds = divmod(us // 1_000_000, 60)
    if minutes < 120:
        return f"{minutes} min {seconds} s"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days"


def ago(us: int, now_us: int) -> str:
    """Return how long ago something was."""
    seconds = max(0, now_us - us) // 1_000_000
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        minutes = seconds // 60
        return f"{minutes} minute{'' if minutes == 1 else 's'} ago"
    hours = seconds // 3600
    if hours < 48:
        return f"{hours} hour{'' if hours == 1 else 's'} ago"
    return f"{hours // 24} days ago"


def reference(id: str) -> str:
    """Return the short code by which people name a message or a change: ``7KQ-4MX``."""
    code = base64.b32encode(hashlib.sha256(id.encode()).digest()).decode()[:REFERENCE_LETTERS]
    return f"{code[:3]}-{code[3:]}"


def greeting(us: int, zone: str) -> str:
    """Return what one says at this time of day."""
    hour = local(us, zone).hour
    return "Good morning" if 4 <= hour < 12 else "Good afternoon" if 12 <= hour < 18 else "Good evening"


MARKS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        # word → (icon, colour)
        "Active": ("check", "ok"),
        "Ends soon": ("clock", "attention"),
        "Paused": ("pause", "attention"),
        "Waiting": ("clock", "attention"),
        "Stopped": ("stop", "quiet"),
        "Ended": ("stop", "quiet"),
        "New": ("plus", "quiet"),
        "done": ("check", "ok"),
        "running": ("dot", "accent"),
        "waiting": ("clock", "quiet"),
        "refused": ("cross", "stop"),
        "failed": ("cross", "stop"),
        "timed out": ("clock", "stop"),
        "skipped": ("dash", "quiet"),
        "not reached": ("dash", "quiet"),
        "kept back": ("pause", "attention"),
        "applied": ("check", "ok"),
        "pending": ("clock", "attention"),
        "hidden": ("dash", "quiet"),
        "Service on": ("check", "ok"),
        "Service off": ("stop", "attention"),
        "Off": ("stop", "attention"),
        "Suspended": ("stop", "stop"),
        "Reached": ("check", "ok"),
        "Not yet": ("clock", "quiet"),
        "Proved": ("check", "ok"),
        "Not proved": ("warning", "attention"),
    }
)
"""Every state is told by icon, word and colour together."""


def mark(word: str) -> dict[str, str]:
    """Return how a state is shown."""
    icon, colour = MARKS.get(word, ("dot", "quiet"))
    return {"word": word, "icon": icon, "colour": colour}


OUTCOMES: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        # state of a request → (word of the mark, what a customer reads)
        "ACCEPTED": ("running", "on its way"),
        "QUEUED": ("running", "on its way"),
        "SENT": ("running", "on its way to your gateway"),
        "AT_GATEWAY": ("running", "your gateway is working on it"),
        "DONE": ("done", "done"),
        "FAILED": ("failed", "it did not work"),
        "REFUSED": ("refused", "refused"),
        "EXPIRED": ("timed out", "not done in time"),
        "CANCELLED": ("skipped", "cancelled"),
        "UNCONFIRMED": ("timed out", "no proof that it happened"),
    }
)


def why(reason: Reason | None) -> str:
    """Return a reason as a sentence."""
    return SENTENCES[reason] if reason is not None else ""


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mark": mark,
    "when": when,
    "time_of": time_of,
    "day_of": day_of,
    "day_name": day_name,
    "short_day": short_day,
    "date_field": date_field,
    "ago": ago,
    "why": why,
    "greeting": greeting,
    "degrees": wording.degrees,
    "watts": wording.watts,
    "bounds_words": wording.bounds_words,
    "permit_words": wording.permit_words,
    "verbs_in": wording.verbs_in,
}
FILTERS: dict[str, Callable[..., Any]] = {"iso": iso, "lasted": lasted, "reference": reference}
