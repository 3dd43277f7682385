"""The customer's never below and never above hold for every operation that carries a value, a plan included."""

import pytest

from doorward.wire.grants import Bounds
from doorward.wire.permission import require_within
from doorward.wire.reasons import Reason, Refused
from doorward.wire.times import from_rfc3339
from doorward.wire.vocabulary import Operation

NOON = from_rfc3339("2026-07-01T12:00:00Z")
HOUR = 3_600_000_000
ENVELOPE = Bounds(watts_min=1000, watts_max=5000, celsius_min=18, celsius_max=24, offset_max=2)


def plan(*rows: dict[str, object]) -> dict[str, object]:
    return {"intervals": [{"at": f"{6 + i:02}:00", **row} for i, row in enumerate(rows)]}


def refusal_of(operation: Operation, body: dict[str, object]) -> Refused | None:
    try:
        require_within(ENVELOPE, operation, body, NOON, NOON + HOUR, "UTC")
    except Refused as refusal:
        return refusal
    return None


@pytest.mark.parametrize(
    ("operation", "body", "field"),
    [
        (Operation.LIMIT, {"watts": 999}, "/body/watts"),
        (Operation.LIMIT, {"watts": 5001}, "/body/watts"),
        (Operation.SETPOINT, {"celsius": 17.9}, "/body/celsius"),
        (Operation.SETPOINT, {"celsius": 24.1}, "/body/celsius"),
        (Operation.OFFSET, {"celsius": -2.1}, "/body/celsius"),
        (Operation.OFFSET, {"celsius": 2.1}, "/body/celsius"),
        (Operation.PROGRAM, plan({"watts": 999}), "/body/intervals/0/watts"),
        (Operation.PROGRAM, plan({"watts": 2000}, {"watts": 5001}), "/body/intervals/1/watts"),
        (Operation.PROGRAM, plan({"celsius": 20}, {"celsius": 17.9}), "/body/intervals/1/celsius"),
        (Operation.PROGRAM, plan({"celsius": 24.1}), "/body/intervals/0/celsius"),
    ],
)
def test_what_is_outside_is_refused_with_its_place(
    operation: Operation, body: dict[str, object], field: str
) -> None:
    refusal = refusal_of(operation, body)
    assert refusal is not None
    assert (refusal.reason, refusal.field) == (Reason.OUTSIDE_CUSTOMER_LIMITS, field)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (Operation.LIMIT, {"watts": 1000}),
        (Operation.SETPOINT, {"celsius": 24}),
        (Operation.OFFSET, {"celsius": -2}),
        (Operation.PROGRAM, plan({"watts": 1000}, {"watts": 5000})),
        (Operation.PROGRAM, plan({"celsius": 18}, {"celsius": 24})),
        (Operation.PROGRAM, plan({"on": True})),
    ],
)
def test_what_is_inside_passes(operation: Operation, body: dict[str, object]) -> None:
    assert refusal_of(operation, body) is None
