"""One rule of permission, asked at the CCS and at the gateway."""

import pytest

from doorward.wire.grants import Bounds, DevicePermit, GrantDocument
from doorward.wire.permission import permits_of, require_running, require_within
from doorward.wire.reasons import Reason, Refused
from doorward.wire.times import from_rfc3339
from doorward.wire.vocabulary import DeviceClass, Operation, Scope

NOON = from_rfc3339("2026-07-01T12:00:00Z")
HOUR = 3_600_000_000


def grant(**changes: object) -> GrantDocument:
    fields: dict[str, object] = {
        "grant": "G-1",
        "version": 1,
        "party": "bright",
        "service_point": "SP-1",
        "purpose": "savings",
        "devices": [
            DevicePermit(
                device="EV-1",
                device_class=DeviceClass.EV_CHARGER,
                operations=[Operation.READ, Operation.LIMIT],
            ),
            DevicePermit(device="TH-1", device_class=DeviceClass.THERMOSTAT, operations=[Operation.READ]),
        ],
        "not_before_us": NOON,
        "expires_us": NOON + HOUR,
        "issued_us": NOON,
    }
    return GrantDocument(**{**fields, **changes})  # type: ignore[arg-type]


def reason_of(*arguments: object, of: object = permits_of) -> Reason | None:
    try:
        of(*arguments)  # type: ignore[operator]
    except Refused as refusal:
        return refusal.reason
    return None


def test_a_grant_runs_from_its_beginning_until_just_before_its_end() -> None:
    document = grant()
    assert reason_of(document, NOON - 1, of=require_running) is Reason.ACCESS_ENDED
    assert reason_of(document, NOON, of=require_running) is None
    assert reason_of(document, NOON + HOUR - 1, of=require_running) is None
    assert reason_of(document, NOON + HOUR, of=require_running) is Reason.ACCESS_ENDED


def test_only_what_was_allowed_on_that_device_is_permitted() -> None:
    document = grant()
    assert reason_of(document, Scope.DEVICE, "EV-1", Operation.LIMIT) is None
    assert reason_of(document, Scope.DEVICE, "TH-1", Operation.SETPOINT) is Reason.OPERATION_NOT_PERMITTED
    assert reason_of(document, Scope.DEVICE, "XX-9", Operation.READ) is Reason.DEVICE_UNKNOWN


def test_letting_go_is_permitted_wherever_a_control_is() -> None:
    document = grant()
    assert reason_of(document, Scope.DEVICE, "EV-1", Operation.RELEASE) is None
    assert reason_of(document, Scope.DEVICE, "TH-1", Operation.RELEASE) is Reason.OPERATION_NOT_PERMITTED


def test_a_home_is_read_by_the_devices_that_allow_it() -> None:
    assert [permit.device for permit in permits_of(grant(), Scope.HOME, "", Operation.READ)] == [
        "EV-1",
        "TH-1",
    ]


def test_a_limit_for_the_whole_service_point_needs_its_own_yes() -> None:
    arguments = (Scope.SERVICE_POINT, "", Operation.LIMIT)
    assert reason_of(grant(), *arguments) is Reason.OPERATION_NOT_PERMITTED
    assert reason_of(grant(service_point_limit=True), *arguments) is None


@pytest.mark.parametrize(
    ("bounds", "operation", "body", "field"),
    [
        (Bounds(watts_min=1400), Operation.LIMIT, {"watts": 1000}, "/body/watts"),
        (Bounds(watts_max=3000), Operation.LIMIT, {"watts": 3001}, "/body/watts"),
        (Bounds(celsius_min=18), Operation.SETPOINT, {"celsius": 17.5}, "/body/celsius"),
        (Bounds(celsius_max=26), Operation.SETPOINT, {"celsius": 27}, "/body/celsius"),
        (Bounds(offset_max=2), Operation.OFFSET, {"celsius": -3}, "/body/celsius"),
        (Bounds(hours_max=1), Operation.TURN_OFF, {}, "/until"),
        (Bounds(between=(13 * 60, 20 * 60)), Operation.TURN_OFF, {}, "/start"),
    ],
)
def test_the_customers_own_bounds_hold_and_the_field_is_named(
    bounds: Bounds, operation: Operation, body: dict[str, object], field: str
) -> None:
    with pytest.raises(Refused) as refused:
        require_within(bounds, operation, body, NOON, NOON + 2 * HOUR, "UTC")
    assert refused.value.reason is Reason.OUTSIDE_CUSTOMER_LIMITS
    assert refused.value.field == field


def test_an_offset_is_not_held_against_the_bounds_of_a_temperature() -> None:
    require_within(
        Bounds(celsius_min=18, celsius_max=26, offset_max=3),
        Operation.OFFSET,
        {"celsius": -2},
        NOON,
        NOON + HOUR,
        "UTC",
    )


def test_hours_are_of_the_homes_own_clock_and_may_pass_midnight() -> None:
    night = Bounds(between=(22 * 60, 6 * 60))
    at_23_in_madrid = from_rfc3339("2026-07-01T21:00:00Z")
    require_within(night, Operation.TURN_OFF, {}, at_23_in_madrid, at_23_in_madrid + HOUR, "Europe/Madrid")
    with pytest.raises(Refused):
        require_within(night, Operation.TURN_OFF, {}, at_23_in_madrid, at_23_in_madrid + HOUR, "UTC")
