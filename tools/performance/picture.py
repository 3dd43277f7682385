"""docs/pictures/performance.svg: CPU time per round trip, as bars from the data."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

from tools.performance.figures import GOALS_US, NAMES, cpu_us, floor_us

WIDTH, LEFT, RIGHT, TOP = 900, 420, 70, 64
BAR, GAP = 14, 8
OWN, FLOOR, GOAL = "#2f6fb0", "#9bb8d3", "#c2571a"
STYLE = "text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#444}.t{font-size:14px;font-weight:600}"


class Bar(NamedTuple):
    """One bar: CPU µs of the CCS, of the floor beside it (0: none), and the goal (0: none)."""

    name: str
    own_us: float
    floor_us: float
    goal_us: float


def bars(data: Mapping[str, Mapping[str, Any]]) -> Iterator[Bar]:
    """Yield a bar for each phase at saturation."""
    for name in NAMES:
        for phase in data.get(name, {}).get("phases", ()):
            if phase["phase"] in ("singles", "lists"):
                by = phase["hand_over"]
                yield Bar(
                    f"{NAMES[name]}: {phase['phase']}, {by}",
                    cpu_us(phase),
                    floor_us(data[name], phase["phase"]),
                    GOALS_US.get((phase["phase"], by), 0.0),
                )


def picture(data: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the picture."""
    shown = list(bars(data))
    height = TOP + len(shown) * (BAR + GAP) + 24
    most = max((bar.own_us for bar in shown), default=1.0)
    title = "CPU time of the CCS per round trip, µs"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{title}</title><style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text class="t" x="16" y="22">{title}</text>',
        *_legend(),
    ]
    for at, bar in enumerate(shown):
        lines += _bar(bar, TOP + at * (BAR + GAP), (WIDTH - LEFT - RIGHT) / most)
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> Iterator[str]:
    for at, (colour, words) in enumerate(((OWN, "CCS"), (FLOOR, "floor, same run"), (GOAL, "goal"))):
        x = LEFT + at * 130
        yield f'<rect x="{x}" y="36" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{x + 15}" y="45">{words}</text>'


def _bar(bar: Bar, y: float, scale: float) -> Iterator[str]:
    own = bar.own_us * scale
    yield f'<text x="{LEFT - 8}" y="{y + 11:.0f}" text-anchor="end">{escape(bar.name)}</text>'
    yield f'<rect x="{LEFT}" y="{y:.0f}" width="{own:.1f}" height="{BAR}" fill="{OWN}"/>'
    yield f'<rect x="{LEFT}" y="{y:.0f}" width="{bar.floor_us * scale:.1f}" height="{BAR}" fill="{FLOOR}"/>'
    if bar.goal_us:
        x = LEFT + bar.goal_us * scale
        yield f'<path d="M{x:.1f} {y - 3:.0f}v{BAR + 6}" stroke="{GOAL}" stroke-width="2"/>'
    yield f'<text x="{LEFT + own + 6:.1f}" y="{y + 11:.0f}">{bar.own_us:,.0f}</text>'
