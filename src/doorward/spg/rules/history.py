"""A past interval, answered from the gateway's own samples (S1.01b)."""

from collections.abc import Mapping, Sequence

from doorward.spg.rules.facts import DAY_US, MINUTE_US, Sample
from doorward.wire.reasons import Reason, Refused
from doorward.wire.times import from_rfc3339, to_rfc3339

POINTS_MAX = 2_000
"""Points of one answer, over all devices; longer intervals are given in wider steps."""
SPAN_US_MAX = 30 * DAY_US


def interval_of(body: Mapping[str, object]) -> tuple[int, int] | None:
    """Return (from, to) in µs when the body asks for the past, ``None`` otherwise.

    Raises ``format-invalid`` with the field that is wrong.
    """
    if "from" not in body and "to" not in body:
        return None
    begin, end = _time(body, "from"), _time(body, "to")
    if not begin < end <= begin + SPAN_US_MAX:
        raise Refused(
            Reason.FORMAT_INVALID, "the interval ends before it begins or is over 30 days", field="/body/to"
        )
    return begin, end


def _time(body: Mapping[str, object], name: str) -> int:
    value = body.get(name)
    try:
        if not isinstance(value, str):
            raise ValueError(f"{name} is missing")
        return from_rfc3339(value)
    except ValueError as error:
        raise Refused(Reason.FORMAT_INVALID, str(error), field=f"/body/{name}") from None


def step_of(begin_us: int, end_us: int, devices: int, sample_us: int) -> int:
    """Return the width of a step: the sampling interval, or a multiple that keeps the answer bounded."""
    base = sample_us or MINUTE_US
    points = max(1, -(-(end_us - begin_us) // base) * max(1, devices))
    return base * -(-points // POINTS_MAX)


def series(samples: Sequence[Sample], begin_us: int, step_us: int) -> list[dict[str, object]]:
    """Return one point per step that has samples: mean power, last state and last counter of the step."""
    steps: dict[int, list[Sample]] = {}
    for sample in samples:
        steps.setdefault((sample.at_us - begin_us) // step_us, []).append(sample)
    return [
        {
            "at": to_rfc3339(part[-1].at_us),
            "state": part[-1].state,
            "power_w": round(sum(sample.power_w for sample in part) / len(part), 1),
            "energy_wh": part[-1].energy_wh,
        }
        for _, part in sorted(steps.items())
    ]
