"""What a bench measures: sizes, phases, and their bounds in count and time."""

from typing import Literal, Self

import msgspec

PER_HOUR = 24
"""Transactions an hour at one service point, as shipped (N01): the bench stays within them."""
PER_REQUEST = 2
"""Transactions of one request: itself and its result."""
LIST_ITEMS = 100
HONO_PER_S = 141.0
"""Commands a second in Eclipse Hono's published run, which our steady phase repeats."""
RECONNECTS_PER_S = 100.0
"""Full handshakes a second of which both ends are on this machine."""
ECHOES = 100
"""Connections of the floor: what one costs does not depend on how many there are."""

HandOver = Literal["wait", "webhook", "stream"]
Store = Literal["sqlite", "postgresql"]
Link = Literal["websocket", "mqtt"]
PAIRS: dict[str, tuple[Store, Link]] = {
    "sqlite,websocket": ("sqlite", "websocket"),
    "postgresql,websocket": ("postgresql", "websocket"),
    "postgresql,mqtt": ("postgresql", "mqtt"),
}


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """Load of one kind. ``items`` are requests in one call (1: a single post).

    ``rate_per_s`` > 0 is an open loop: calls begin by the clock whatever the answers do, and latency counts
    from when a call should have begun. Otherwise ``callers`` go on as fast as they are answered.
    The phase begins no call after ``seconds_max``, nor beyond ``requests_max`` requests.
    """

    name: str
    items: int = 1
    hand_over: HandOver = "wait"
    rate_per_s: float = 0.0
    callers: int = 64
    requests_max: int
    seconds_max: float
    storm: bool = False
    """Whether all gateways lose their links as it begins, and come back while it runs."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    store: Store = "sqlite"
    link: Link = "websocket"
    workers: int = 1
    gateways: int = 1_000
    light: bool = False
    """Whether the gateways are light ones (``light.py``) or real ones."""
    history: int = 0
    """Journal rows that are there before it begins."""
    parties: int = 4
    warm_up: Phase
    phases: list[Phase]
    floor: list[Phase]

    @property
    def requests_max(self) -> int:
        """How many requests the CCS may be sent at the most."""
        return sum(phase.requests_max for phase in (self.warm_up, *self.phases))

    @property
    def points_per_gateway(self) -> int:
        """Service points behind each gateway, so that the shipped limit refuses nothing."""
        per_point = PER_HOUR // PER_REQUEST
        # Every third party has its own points and lists are cut from them, so they are not used up evenly.
        needed = self.requests_max + self.parties * LIST_ITEMS * per_point
        return max(1, -(-needed // (per_point * self.gateways)))

    @property
    def points(self) -> int:
        """Service points, each with one device, in all."""
        return self.gateways * self.points_per_gateway

    @classmethod
    def of(
        cls,
        engines: str,
        *,
        workers: int,
        gateways: int,
        rate_per_s: float,
        seconds: float,
        hand_overs: list[HandOver],
        quick: bool,
        light: bool = False,
        storm: bool = False,
        history: int = 0,
    ) -> Self:
        """Return the plan that the command line asks for; raise ``ValueError`` in words where it cannot be.

        ``seconds`` is the length of each phase at saturation; the steady phase takes twice that, and one in
        which all gateways reconnect as long as their handshakes take at ``RECONNECTS_PER_S``.
        """
        pair = PAIRS.get(engines.replace(" ", ""))
        if pair is None:
            raise ValueError(f"engines: {engines!r} is none of {'; '.join(PAIRS)}")
        if workers > 1 and pair != ("postgresql", "mqtt"):
            raise ValueError("workers: more than one needs --engines postgresql,mqtt")
        if storm and not light:
            raise ValueError("storm: only light gateways can be made to lose their links; add --light")
        if quick:
            gateways, seconds = min(gateways, 8), min(seconds, 1.0)
        most = 200 if quick else 12_000
        phases = [_steady(rate_per_s, 2 * seconds, quick)]
        if storm:
            phases.append(_storm(rate_per_s, max(2 * seconds, gateways / RECONNECTS_PER_S), quick))
        for hand_over in hand_overs:
            phases += _saturation(hand_over, seconds, most)
        return cls(
            store=pair[0],
            link=pair[1],
            workers=workers,
            gateways=gateways,
            light=light,
            history=history,
            parties=2 if quick else 4,
            warm_up=Phase(name="warm-up", requests_max=40 if quick else 400, seconds_max=5.0, callers=16),
            phases=phases,
            floor=_saturation("wait", seconds, most),
        )


def _steady(rate_per_s: float, seconds: float, quick: bool) -> Phase:
    most = 60 if quick else int(rate_per_s * seconds)
    return Phase(name="steady", rate_per_s=rate_per_s, requests_max=most, seconds_max=seconds)


def _storm(rate_per_s: float, seconds: float, quick: bool) -> Phase:
    return msgspec.structs.replace(_steady(rate_per_s, seconds, quick), name="storm", storm=True)


def _saturation(hand_over: HandOver, seconds: float, most: int) -> list[Phase]:
    return [
        Phase(name="singles", hand_over=hand_over, requests_max=most, seconds_max=seconds),
        Phase(
            name="lists",
            items=LIST_ITEMS,
            hand_over=hand_over,
            callers=8,
            requests_max=2 * most,
            seconds_max=seconds,
        ),
    ]
