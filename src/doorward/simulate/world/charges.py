"""The limits by brute force: all charges of a world, and every window looked at (P7).

Kept from what the database says was accepted, sent and ended; shares no line with the code that decides.
"""

from collections import defaultdict

from doorward.simulate.world import town

TICK_US = 1000
GRACE_US = 2 * town.US
TOLERANCE_US = 20_000
"""The moment of a decision is read a little before its commit."""


class Charges:
    """What was charged at each service point, by whom and when."""

    def __init__(self) -> None:
        self._of: dict[str, list[int]] = defaultdict(list)
        """Request → its charge times (twice where it may have crossed twice)."""
        self._whole: dict[str, list[int]] = defaultdict(list)
        self._own: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._sent: set[str] = set()

    def windows(self, party: str, place: str, sharers: int) -> list[tuple[list[int], int, int]]:
        """Return the (charge times, limit, span) that hold for a third party at a service point."""
        whole, own = self._whole[place], self._own[party, place]
        sharers = max(1, sharers)
        return [
            (whole, town.PER_HOUR, town.HOUR_US),
            (whole, town.PER_DAY, town.DAY_US),
            (own, max(2, town.PER_HOUR // sharers), town.HOUR_US),
            (own, max(2, town.PER_DAY // sharers), town.DAY_US),
        ]

    def moved(
        self,
        id: str,
        before: str,
        after: str,
        attempt: int,
        before_us: int,
        charge_us: int,
        party: str,
        place: str,
        need: int,
        sharers: int,
    ) -> list[str]:
        """A request was made or moved, its charge from ``before_us`` to ``charge_us`` (0: none); return what is
        wrong with that.

        A charge is given back when it is known that what it was for never left; what may have crossed stays.
        """
        if attempt:
            self._sent.add(id)
        if after in ("EXPIRED", "CANCELLED") and id not in self._sent:
            self._give_back(self._of.pop(id, []), party, place, need)
            return []
        if charge_us == before_us:
            return []
        if before_us and before in ("ACCEPTED", "QUEUED"):
            self._of[id].remove(before_us)
            self._give_back([before_us], party, place, need)
        if charge_us:
            return self._charge(id, charge_us, party, place, need, sharers)
        return []

    def _charge(self, id: str, charge_us: int, party: str, place: str, need: int, sharers: int) -> list[str]:
        self._of[id].append(charge_us)
        wrong = []
        for log in (self._whole[place], self._own[party, place]):
            log.extend([charge_us] * need)
            log.sort()
        for log, limit, span_us in self.windows(party, place, sharers):
            used = sum(1 for each in log if charge_us - span_us < each <= charge_us)
            if used > limit:
                wrong.append(
                    f"{used} charges of {limit} in {span_us // town.HOUR_US} h at {place} with {id} of {party}"
                )
        return wrong

    def _give_back(self, charges_us: list[int], party: str, place: str, need: int) -> None:
        for charge_us in charges_us:
            for log in (self._whole[place], self._own[party, place]):
                for _ in range(need):
                    log.remove(charge_us)

    def notice(self, now_us: int, party: str, place: str, sharers: int) -> None:
        """A device's own word was charged one."""
        at_us = self._earliest(now_us, party, place, 1, sharers)
        for log in (self._whole[place], self._own[party, place]):
            log.append(at_us)
            log.sort()

    def refused(self, now_us: int, party: str, place: str, need: int, sharers: int) -> str:
        """Return why a refusal at ``now_us`` was wrong, or nothing."""
        at_us = self._earliest(now_us, party, place, need, sharers)
        if at_us - now_us > GRACE_US - TOLERANCE_US:
            return ""
        return f"{party} at {place} at {now_us}: there was room for {need} at {at_us}"

    def _earliest(self, now_us: int, party: str, place: str, need: int, sharers: int) -> int:
        """The first moment from now on at which no window is broken, found by trying."""
        logs = self.windows(party, place, sharers)
        newest = max((log[-1] for log, _, _ in logs if log), default=0)
        tries = {max(now_us, newest)}
        tries |= {each + span for log, _, span in logs for each in log if each + span > now_us}
        for moment in sorted(tries):
            if moment < max(now_us, newest):
                continue
            if all(
                sum(1 for each in log if moment - span < each <= moment) + need <= limit
                for log, limit, span in logs
            ):
                return -(-moment // TICK_US) * TICK_US
        raise AssertionError("a day after the last charge there is room")
