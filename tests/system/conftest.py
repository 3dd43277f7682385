"""Whole utilities as processes: one for each pair of engines, for the session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from doorward.simulate.local_utility import EMBEDDED, ENGINES, PRODUCTION, LocalUtility
from doorward.simulate.neighbourhood_plan import Company, Equipment, Home, Plan
from doorward.wire.vocabulary import DeviceClass
from tests.services import embedded_only
from tests.system.street import street

__all__ = ["street"]


def home(number: int) -> Home:
    """A home with a thermostat and a relay, behind a gateway of its own."""
    return Home(
        service_point=f"SP-{number}",
        gateway=f"SPG-{number}",
        customer=f"Customer {number}",
        equipment=(
            Equipment(f"TH-{number}", DeviceClass.THERMOSTAT, "Thermostat"),
            Equipment(f"RL-{number}", DeviceClass.RELAY, "Relay"),
        ),
    )


PLAN = Plan(
    homes=(home(1), home(2)),
    parties=(
        Company("bright", "BrightGrid", "premium", ("SP-1", "SP-2")),
        Company("sun", "Sunfold", "standard", ()),
    ),
)
"""Two homes of one company; another company has none. The first home is for what succeeds."""


def pairs() -> tuple[tuple[str, str], ...]:
    """The pairs of engines that this run has."""
    return (EMBEDDED,) if embedded_only() else ENGINES


@pytest.fixture(scope="session", params=pairs(), ids=lambda pair: "+".join(pair))
def utility(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalUtility]:
    """A running utility on each pair of engines; two workers on the production pair."""
    workers = 2 if request.param == PRODUCTION else 1
    place: Path = tmp_path_factory.mktemp("-".join(request.param))
    running = LocalUtility(
        place, PLAN, {"warn_after_s": 2, "checkpoint_s": 1.0}, engines=request.param, workers=workers
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()
