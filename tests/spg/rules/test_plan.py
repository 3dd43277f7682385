"""A limit for the whole, spread over devices."""

from hypothesis import given
from hypothesis import strategies as st

from doorward.spg.rules.plan import Candidate, Step, is_met, spread
from doorward.wire.grants import Bounds
from doorward.wire.reasons import Refused
from doorward.wire.vocabulary import DeviceClass, Operation

LIMIT, OFF, SHED = Operation.LIMIT, Operation.TURN_OFF, Operation.SHED


def candidate(
    name: str,
    kind: DeviceClass,
    power_w: float,
    *operations: Operation,
    rated_w: float = 5000,
    floor: float | None = None,
) -> Candidate:
    return Candidate(
        device=name,
        device_class=kind,
        power_w=power_w,
        rated_w=rated_w,
        operations=frozenset(operations),
        bounds=Bounds(watts_min=floor),
    )


EV = candidate("ev", DeviceClass.EV_CHARGER, 4000, LIMIT, OFF)
PUMP = candidate("pump", DeviceClass.POOL_PUMP, 1000, LIMIT, OFF)
TANK = candidate("tank", DeviceClass.WATER_HEATER, 2000, SHED)
HEAT = candidate("heat", DeviceClass.HEAT_PUMP, 1500, LIMIT)


def told(steps: list[Step]) -> dict[str, tuple[Operation, dict[str, object]]]:
    return {step.device: (step.operation, step.body) for step in steps}


def test_the_car_waits_before_anything_else_is_cut() -> None:
    assert told(spread(6000, 8500, [TANK, HEAT, PUMP, EV])) == {
        "ev": (LIMIT, {"watts": 1500.0}),
        "pump": (LIMIT, {"watts": 1000.0}),
        "heat": (LIMIT, {"watts": 1500.0}),
    }


def test_what_cannot_be_limited_is_shed_or_turned_off_last() -> None:
    steps = told(spread(1000, 8500, [TANK, HEAT, PUMP, EV]))
    assert steps["tank"] == (SHED, {"level": 3})
    assert steps["ev"] == (LIMIT, {"watts": 1000.0}), "what the shed gave back, the car may have"


def test_load_that_nobody_may_touch_counts() -> None:
    assert told(spread(3000, 5000, [EV])) == {"ev": (LIMIT, {"watts": 2000.0})}


def test_an_idle_car_is_capped_too_so_that_it_does_not_break_the_limit_later() -> None:
    idle = candidate("ev", DeviceClass.EV_CHARGER, 0, LIMIT)
    assert told(spread(3000, 2000, [idle])) == {"ev": (LIMIT, {"watts": 1000.0})}


def test_the_customers_floor_is_kept_or_the_limit_is_refused() -> None:
    floored = candidate("ev", DeviceClass.EV_CHARGER, 4000, LIMIT, floor=1400)
    assert told(spread(2000, 4000, [floored]))["ev"] == (LIMIT, {"watts": 2000.0})
    try:
        spread(1000, 4000, [floored])
    except Refused as refused:
        assert "1400 W" in refused.detail
    else:
        raise AssertionError("the floor was broken")


KINDS = st.sampled_from(list(DeviceClass))
CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.uuids().map(str),
        KINDS,
        st.floats(0, 5000),
        st.sampled_from([LIMIT, OFF, SHED]),
        st.sampled_from([LIMIT, OFF, SHED]),
        floor=st.none() | st.floats(0, 500),
    ),
    max_size=6,
)


@given(CANDIDATES, st.floats(0, 20_000), st.floats(0, 5000))
def test_a_plan_that_is_made_meets_the_limit_with_what_is_running(
    candidates: list[Candidate], limit_w: float, other_w: float
) -> None:
    total = other_w + sum(c.power_w for c in candidates)
    try:
        steps = spread(limit_w, total, candidates)
    except Refused:
        return
    caps = {step.device: step.expected_w for step in steps}
    assert len(caps) == len(steps), "one word to one device"
    after = other_w + sum(min(c.power_w, caps.get(c.device, c.power_w)) for c in candidates)
    assert is_met(limit_w, after)
    for c in candidates:
        step = next((s for s in steps if s.device == c.device), None)
        if step is not None:
            assert step.operation in c.operations
            floor_w = round(c.bounds.watts_min or 0.0, 1)
            assert step.operation is not LIMIT or float(str(step.body["watts"])) >= floor_w
