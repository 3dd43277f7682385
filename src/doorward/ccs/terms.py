"""The numbers that the utility sets and the journey obeys. Times in µs unless the name says otherwise."""

import msgspec

from doorward.ccs.rules.fleet import FleetTerms

US = 1_000_000


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the utility has configured for the way of a message; one object, handed in."""

    per_hour: int = 24
    """Transactions an hour at one service point, all third parties together (N01)."""
    per_day: int = 576
    grace_us: int = 2 * US
    warn_after_us: int = 14 * 60 * US
    """A warning goes out at the latest this long after receipt if nothing was delivered (N07: 15 min)."""
    skew_us: int = 5 * US
    """Margin between the deadline and ``act_before``, for clocks that differ."""
    resend_first_us: int = 2 * US
    resend_max_us: int = 60 * US
    in_flight_max: int = 16
    """Requests to one gateway without a receipt."""
    batch_items_max: int = 500
    queue_items_max: int = 20_000
    webhook_first_us: int = 5 * US
    webhook_max_us: int = 3600 * US
    webhook_give_up_us: int = 3 * 24 * 3600 * US
    webhook_claim_us: int = 60 * US
    webhook_batch_max: int = 200
    refusals_per_minute_max: int = 120
    """Refusals of one source that are recorded one by one; the rest of the minute is one counting row."""
    utility_name: str = "the utility"
    fleet: FleetTerms = FleetTerms()
    """Caps on what load third parties may move (X04)."""
