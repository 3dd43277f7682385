"""The gateway's windows against a count by hand over every window there is."""

from hypothesis import given
from hypothesis import strategies as st

from doorward.spg.rules.facts import DAY_US, HOUR_US, US, Charge, Policy
from doorward.spg.rules.limits import require_room
from doorward.wire.grants import GrantDocument
from doorward.wire.messages import Command
from doorward.wire.reasons import Refused
from doorward.wire.vocabulary import Operation, Scope

NOW_US = 1_780_000_000 * US
DOCUMENT = GrantDocument(
    grant="g",
    version=1,
    party="a",
    service_point="sp",
    purpose="p",
    devices=[],
    not_before_us=0,
    expires_us=2**60,
    issued_us=0,
    tier_hour=6,
    tier_day=20,
)
POLICY = Policy(per_hour=8, per_day=24)


def command(party: str, charge_us: int) -> Command:
    return Command(
        id="x",
        party=party,
        service_point="sp",
        scope=Scope.DEVICE,
        operation=Operation.READ,
        grant="g",
        grant_version=1,
        charge_us=charge_us,
        act_before_us=2**60,
    )


def over(times: list[tuple[int, int]], limit: int, span_us: int) -> bool:
    return any(sum(n for t, n in times if start <= t < start + span_us) > limit for start, _ in times)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 3 * DAY_US // US), st.sampled_from([1, 2])),
        max_size=80,
    )
)
def test_never_over_a_window_and_never_refused_without_need(asked: list[tuple[str, int, int]]) -> None:
    log: list[Charge] = []
    for party, at_s, count in sorted(asked, key=lambda each: each[1]):
        charge_us = NOW_US + at_s * US
        everyone = [(c.charge_us, c.count) for c in log] + [(charge_us, 2)]
        own = [(c.charge_us, c.count) for c in log if c.party == party] + [(charge_us, 2)]
        breaks = (
            over(everyone, 8, HOUR_US)
            or over(everyone, 24, DAY_US)
            or over(own, 6, HOUR_US)
            or over(own, 20, DAY_US)
        )
        try:
            require_room(command(party, charge_us), DOCUMENT, log, POLICY, charge_us)
            admitted = True
        except Refused:
            admitted = False
        assert admitted is not breaks
        if admitted:
            log.append(
                Charge(id=str(len(log)), party=party, service_point="sp", charge_us=charge_us, count=count)
            )
