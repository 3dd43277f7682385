"""Curves as SVG, with nothing from outside: one axis of time, one of a quantity, a line for each series."""

from collections.abc import Sequence
from html import escape

import msgspec

WIDTH, HEIGHT = 860, 340
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 56, 44
LEGEND = 18
"""Height of a line of the legend, one for each series."""
COLOURS = ("#2f6fb0", "#c2571a", "#3c8a4e", "#8a4ea3", "#777777")
POINTS_MAX = 1_500
TICKS = 5


class Series(msgspec.Struct, frozen=True):
    """A named line: values at even steps of time."""

    name: str
    values: Sequence[float]


def chart(title: str, unit: str, step_s: float, series: Sequence[Series], *, unit_s: str = "h") -> str:
    """Return a picture of series that begin at 0; time is shown in ``h`` or ``min``."""
    least = min(0.0, min((min(one.values, default=0.0) for one in series), default=0.0))
    most = max(0.0, max((max(one.values, default=0.0) for one in series), default=0.0))
    most = most if most > least else 1.0
    length_s = max(len(one.values) for one in series) * step_s
    lines = [*_frame(title, unit, least, most, length_s, unit_s)]
    for at, one in enumerate(series):
        colour = COLOURS[at % len(COLOURS)]
        path = _path(one.values, least, most, length_s / step_s)
        lines.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        y = HEIGHT + at * LEGEND
        lines.append(f'<rect x="{LEFT}" y="{y}" width="10" height="10" fill="{colour}"/>')
        lines.append(f'<text x="{LEFT + 16}" y="{y + 9}">{escape(one.name)}</text>')
    style = "text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#444}.t{font-size:14px;font-weight:600}"
    height = HEIGHT + LEGEND * len(series) + 4
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    back = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    title_tag = f"<title>{escape(title)}</title><style>{style}</style>"
    return "\n".join([head, title_tag, back, *lines, "</svg>", ""])


def _frame(title: str, unit: str, least: float, most: float, length_s: float, unit_s: str) -> list[str]:
    lines = [f'<text class="t" x="{LEFT}" y="20">{escape(title)}</text>']
    for tick in range(TICKS + 1):
        value = least + (most - least) * tick / TICKS
        y = _y(value, least, most)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    per = 3600 if unit_s == "h" else 60
    for tick in range(TICKS + 2):
        x = LEFT + (WIDTH - LEFT - RIGHT) * tick / (TICKS + 1)
        at = length_s / per * tick / (TICKS + 1)
        lines.append(
            f'<text x="{x:.0f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{round(at, 1):g}</text>'
        )
    lines.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{unit_s}</text>')
    lines.append(f'<text x="{LEFT - 6}" y="{TOP - 10}" text-anchor="end">{escape(unit)}</text>')
    return lines


def _y(value: float, least: float, most: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - least) / (most - least))


def _path(values: Sequence[float], least: float, most: float, length: float) -> str:
    """Of many points the least and the greatest of each group, so that no spike is lost."""
    group = max(1, -(-2 * len(values) // POINTS_MAX))
    points: list[tuple[int, float]] = []
    for first in range(0, len(values), group):
        part = values[first : first + group]
        low, high = min(part), max(part)
        ends = [low, high] if part.index(low) <= part.index(high) else [high, low]
        points += [(first + at, value) for at, value in enumerate(ends if low != high else [low])]
    span = WIDTH - LEFT - RIGHT
    return "M" + "L".join(
        f"{LEFT + span * at / max(1.0, length):.1f} {_y(value, least, most):.1f}" for at, value in points
    )


def _short(value: float) -> str:
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{letter}" if value % factor == 0 else f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"
