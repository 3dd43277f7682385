"""The sliding limits against brute force: never over in any window, never refused wrongly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.ccs.rules import limits
from doorward.ccs.rules.facts import LimitLog, Place, Tier
from doorward.ccs.rules.limits import DAY_US, GRACE_US, HOUR_US, Account, Window, admit, settle
from doorward.wire.reasons import Reason, Refused

SECOND = 1_000_000
START = 1_800_000_000 * SECOND


def account(*windows: Window, key: str = "sp|A") -> Account:
    return Account(LimitLog(key=key, times_us=[]), windows)


def most_in_any_window(times: list[int], span_us: int) -> int:
    """Brute force: the largest number of charges in any half-open window that begins at a charge."""
    return max((sum(1 for t in times if start <= t < start + span_us) for start in times), default=0)


gaps = st.lists(
    st.one_of(
        st.integers(0, 3 * SECOND), st.integers(0, 20 * 60 * SECOND), st.just(300 * SECOND), st.just(0)
    ),
    max_size=120,
)


@given(gaps=gaps, need=st.sampled_from([1, 2]), hour=st.sampled_from([2, 4, 24]))
@settings(max_examples=200, deadline=None)
def test_no_window_ever_holds_more_than_its_limit_and_none_is_refused_wrongly(
    gaps: list[int], need: int, hour: int
) -> None:
    own = account(Window(hour, HOUR_US), Window(hour * 3, DAY_US))
    now = START
    charged: list[int] = []
    for gap in gaps:
        now += gap
        soonest = max([now, *charged])
        fits = all(
            sum(1 for t in charged if soonest - window.span_us < t <= soonest) + need <= window.limit
            for window in own.windows
        )
        try:
            ticket = admit([own], need, now)
        except Refused as refusal:
            assert refusal.reason is Reason.LIMIT_EXCEEDED
            assert refusal.retry_after_s is not None
            assert not (fits and soonest - now <= GRACE_US - limits.TICK_US)
            continue
        assert now <= ticket.charge_us <= now + GRACE_US + limits.TICK_US
        charged += [ticket.charge_us] * need
    for window in own.windows:
        assert most_in_any_window(charged, window.span_us) <= window.limit


def test_one_request_every_five_minutes_is_always_admitted_all_day_long() -> None:
    own = account(Window(24, HOUR_US), Window(576, DAY_US))
    for number in range(3 * 288):
        admit([own], 2, START + number * 300 * SECOND)


def test_the_twenty_fifth_transaction_in_an_hour_is_refused_with_the_time_to_wait() -> None:
    own = account(Window(24, HOUR_US))
    for _ in range(12):
        admit([own], 2, START)
    with pytest.raises(Refused) as refused:
        admit([own], 2, START + 60 * SECOND)
    assert refused.value.retry_after_s == pytest.approx(3540, abs=0.01)


def test_a_refusal_costs_nothing() -> None:
    own = account(Window(2, HOUR_US))
    admit([own], 2, START)
    before = list(own.log.times_us)
    for minute in range(30):
        with pytest.raises(Refused):
            admit([own], 2, START + minute * 60 * SECOND)
    assert own.log.times_us == before


def test_what_was_not_used_is_given_back_without_leaving_a_hole() -> None:
    own = account(Window(4, HOUR_US))
    first = admit([own], 2, START)
    admit([own], 2, START + SECOND)
    settle(own.log, first.charge_us, 1)
    ticket = admit([own], 1, START + 2 * SECOND)
    assert ticket.remaining == 0
    with pytest.raises(Refused):
        admit([own], 1, START + 3 * SECOND)


def test_a_clock_that_steps_back_admits_nothing_extra() -> None:
    own = account(Window(2, HOUR_US))
    admit([own], 2, START)
    with pytest.raises(Refused):
        admit([own], 2, START - 3600 * SECOND)


def test_parties_share_a_service_point_so_that_none_starves_another() -> None:
    tier = Tier(name="gold", per_hour=24, per_day=576, response_s=60, top_priority=0)
    place = Place(service_point="A", gateway="g", partition=1, parties=2)
    shared = LimitLog(key="sp|A", times_us=[])
    whole = Account(shared, limits.service_point_windows(24, 576))

    def party(name: str) -> Account:
        log = LimitLog(key=f"pt|{name}|A", times_us=[])
        return Account(log, limits.party_windows(tier, place, 24, 576))

    greedy, modest = party("greedy"), party("modest")
    admitted = 0
    for _ in range(12):
        try:
            admit([whole, greedy], 2, START)
            admitted += 1
        except Refused:
            break
    assert admitted == 6
    for _ in range(6):
        admit([whole, modest], 2, START)
