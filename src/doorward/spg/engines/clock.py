"""The gateway's time: it never goes back, survives a boot in 1970, and believes the CCS within bounds (P23)."""

from doorward.kit.clock import Clock
from doorward.spg.rules.facts import DAY_US, US

CORRECTION_US_MAX = 60 * US
"""How far one word of the CCS moves a clock that is trusted already."""
BACK_US_MAX = 10 * 60 * US
BACK_PER_S = 1 / 60
"""How far the CCS may hold a trusted clock back: ten minutes, and a sixtieth of the time that passes. Leases
end by this clock, so a CCS in wrong hands can stretch a day's lease by less than an hour, whatever it says."""
GAP_US_MAX = 400 * DAY_US
"""A wall clock further than this ahead of the stored maximum is not believed without the CCS."""


class GatewayClock:
    """Stored maximum + monotonic time, corrected by the CCS (a :class:`~doorward.spg.ports.TrustedClock`).

    ``base`` is the machine's own clock. Before :meth:`resume` the time is the base's and not trusted.
    It becomes trusted by the CCS's word, or at a restart where the base is plausible: not before the
    latest time that the store has seen.
    """

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._offset_us = 0
        self._floor_us = 0
        self._last_us = 0
        self._plausible = False
        self._confirmed = False
        self._back_us = float(BACK_US_MAX)
        self._heard_us = 0
        self._asked_us: int | None = None

    @property
    def trusted(self) -> bool:
        """Whether the time may decide about third-party traffic."""
        return self._plausible or self._confirmed

    @property
    def confirmed(self) -> bool:
        """Whether the CCS has said the time since the start."""
        return self._confirmed

    def resume(self, latest_us: int) -> None:
        """Go on from the latest confirmed time that the store has seen (0: a new store)."""
        base_us = self._base.now_us()
        self._plausible = 0 < latest_us <= base_us <= latest_us + GAP_US_MAX
        self._offset_us = max(0, latest_us - base_us)
        self._floor_us = self._last_us = latest_us

    def now_us(self) -> int:
        """Return UTC microseconds; never less than before, but for the first word of the CCS."""
        self._last_us = max(self._last_us, self._base.now_us() + self._offset_us)
        return self._last_us

    def asked(self) -> None:
        """The CCS was asked for the time: its next word is no older than this question."""
        if self._asked_us is None:
            self._asked_us = self._base.now_us()

    def hear(self, at_us: int) -> None:
        """Believe the CCS: wholly the first time since the start, by at most a minute later on.

        A word may have been long on its way, held up by whoever carries it. So it sets the clock back only by
        what cannot be its way: what is left of the difference after the time since we asked; a word that we
        did not ask for sets it back by nothing. The first word may set it back, but never before the latest
        confirmed time of the store. A later correction backwards lets it stand still until time has caught
        up, within ``BACK_US_MAX``.
        """
        error_us = at_us - (self._base.now_us() + self._offset_us)
        if error_us < 0:
            error_us = min(0, error_us + self._way_us(-error_us))
        self._asked_us = None
        if self._confirmed:
            error_us = max(-self._room_back_us(), min(CORRECTION_US_MAX, error_us))
            self._back_us += min(0, error_us)
        else:
            self._last_us = max(self._floor_us, self._base.now_us() + self._offset_us + error_us)
        self._offset_us += error_us
        self._confirmed = True

    def _way_us(self, unasked_us: int) -> int:
        """How long the CCS's word may have been on its way, at most."""
        return unasked_us if self._asked_us is None else self._base.now_us() - self._asked_us

    def _room_back_us(self) -> int:
        """How far the clock may be held back by this word."""
        base_us = self._base.now_us()
        passed_us = base_us - self._heard_us if self._heard_us else 0
        self._heard_us = base_us
        self._back_us = min(float(BACK_US_MAX), self._back_us + passed_us * BACK_PER_S)
        return min(CORRECTION_US_MAX, int(self._back_us))
