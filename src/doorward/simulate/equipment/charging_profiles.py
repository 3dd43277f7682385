"""OCPP charging profiles as a charger composes them. Pure."""

from collections.abc import Iterable

import msgspec

US = 1_000_000
DAY_S = 86_400


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One profile, of either OCPP version, in W. ``periods`` are (start in s, limit in W)."""

    id: int
    purpose: str
    stack: int
    recurring: bool
    start_us: int
    periods: tuple[tuple[int, float], ...]
    duration_s: int | None = None
    valid_from_us: int | None = None
    valid_to_us: int | None = None

    def limit_at(self, at_us: int) -> float | None:
        """The limit at a moment; None when the profile says nothing of it."""
        if self.valid_from_us is not None and at_us < self.valid_from_us:
            return None
        if self.valid_to_us is not None and at_us >= self.valid_to_us:
            return None
        elapsed_s = (at_us - self.start_us) / US
        if self.recurring:
            elapsed_s %= DAY_S
        if elapsed_s < 0 or (self.duration_s is not None and elapsed_s >= self.duration_s):
            return None
        begun = [limit for start, limit in self.periods if start <= elapsed_s]
        return begun[-1] if begun else None


def limit_at(profiles: Iterable[Profile], at_us: int, most_w: float) -> float:
    """The limit of all profiles: within a purpose the highest stack level decides, over all the least."""
    deciding: dict[str, tuple[int, float]] = {}
    for profile in profiles:
        limit = profile.limit_at(at_us)
        if limit is not None and (
            profile.purpose not in deciding or profile.stack >= deciding[profile.purpose][0]
        ):
            deciding[profile.purpose] = (profile.stack, limit)
    return min([most_w, *(limit for _, limit in deciding.values())])


def composite(profiles: list[Profile], at_us: int, duration_s: int, most_w: float) -> list[tuple[int, float]]:
    """The schedule from ``at_us`` on as (start in s, limit in W), one row per change."""
    edges = {0}
    for profile in profiles:
        moments = [profile.start_us + start * US for start, _ in profile.periods]
        moments += [us for us in (profile.valid_from_us, profile.valid_to_us) if us is not None]
        if profile.duration_s is not None and not profile.recurring:
            moments.append(profile.start_us + profile.duration_s * US)
        for moment in moments:
            offset_s = -((at_us - moment) // US)
            edges.add(offset_s % DAY_S if profile.recurring else offset_s)
    rows: list[tuple[int, float]] = []
    for edge in sorted(edge for edge in edges if 0 <= edge < duration_s):
        limit = limit_at(profiles, at_us + edge * US, most_w)
        if not rows or rows[-1][1] != limit:
            rows.append((edge, limit))
    return rows
