"""How often may somebody call: a bucket per third party, and one per address that fails to prove itself.

In memory and per worker: these protect the door. The limits that count messages are the journey's.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from doorward.ccs.ports import Store
from doorward.wire.reasons import Reason, Refused

BUCKETS_MAX = 20_000
CALLS_PER_S_DEFAULT = 200
RENEW_S = 60.0
"""How long a party's rate is believed before it is read again."""
FAILURES_PER_S = 1.0
FAILURES_AT_ONCE = 30.0


@dataclass(slots=True)
class Bucket:
    """Fills by ``per_s`` up to ``most``."""

    per_s: float
    most: float
    left: float
    at_s: float
    read_s: float = 0.0

    def fill(self, now_s: float) -> None:
        """Let time pass."""
        self.left = min(self.most, self.left + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s


class CallMeter:
    """The buckets of one worker, which has a ``workers``-th of each party's rate."""

    def __init__(self, store: Store, time_s: Callable[[], float], workers: int = 1) -> None:
        self._store = store
        self._time_s = time_s
        self._workers = workers
        self._parties: dict[str, Bucket] = {}
        self._sources: OrderedDict[str, Bucket] = OrderedDict()

    async def require(self, party: str) -> None:
        """Take one call of a party, or raise ``rate-limited``."""
        now_s = self._time_s()
        bucket = self._parties.get(party)
        if bucket is None or now_s - bucket.read_s > RENEW_S:
            bucket = await self._renew(party, bucket)
        bucket.fill(now_s)
        if bucket.left < 1.0:
            raise _slow_down((1.0 - bucket.left) / bucket.per_s)
        bucket.left -= 1.0

    async def _renew(self, party: str, bucket: Bucket | None) -> Bucket:
        found = (await self._store.read(lambda books: books.parties([party]))).get(party)
        rate = max(1.0, (found.calls_per_s if found else CALLS_PER_S_DEFAULT) / self._workers)
        now_s = self._time_s()
        if bucket is None:
            if len(self._parties) >= BUCKETS_MAX:
                self._parties.clear()
            bucket = self._parties[party] = Bucket(rate, rate, rate, now_s)
        bucket.per_s = bucket.most = rate
        bucket.read_s = now_s
        return bucket

    def require_source(self, source: str) -> None:
        """Raise ``rate-limited`` if too much from this address has failed to prove itself."""
        bucket = self._sources.get(source)
        if bucket is None:
            return
        bucket.fill(self._time_s())
        if bucket.left < 1.0:
            raise _slow_down((1.0 - bucket.left) / bucket.per_s)

    def failed(self, source: str) -> None:
        """Somebody at this address did not prove who it is."""
        now_s = self._time_s()
        bucket = self._sources.pop(source, None) or Bucket(
            FAILURES_PER_S, FAILURES_AT_ONCE, FAILURES_AT_ONCE, now_s
        )
        bucket.fill(now_s)
        bucket.left = max(0.0, bucket.left - 1.0)
        self._sources[source] = bucket
        if len(self._sources) > BUCKETS_MAX:
            self._sources.popitem(last=False)


def _slow_down(wait_s: float) -> Refused:
    return Refused(Reason.RATE_LIMITED, retry_after_s=wait_s)
