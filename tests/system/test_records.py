"""One question to the CCS answers everything about a message; formats are the utility's own data."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest

from doorward.client import Malformed
from tests.system.street import Street

TIMES = (
    "received",
    "pushed_to_gateway",
    "received_at_gateway",
    "pushed_to_han",
    "answered",
    "pushed_to_ccs",
    "received_by_ccs",
    "pushed_to_third_party",
)
OF_THE_CCS = ("received", "pushed_to_gateway", "received_by_ccs", "pushed_to_third_party")
OF_THE_GATEWAY = ("received_at_gateway", "pushed_to_han", "answered", "pushed_to_ccs")
FORMAT = {
    "name": "acme.pump_read",
    "version": 1,
    "device_class": "pool_pump",
    "operation": "read",
    "title": "Acme's way to read a pump",
    "request": {
        "type": "object",
        "properties": {"values": {"type": "array", "items": {"enum": ["on"]}, "maxItems": 1}},
        "required": ["values"],
        "additionalProperties": False,
    },
}
RELOAD_S = 4.0
"""A running CCS looks for new formats every two seconds."""


@pytest.mark.req("F18", "F09")
def test_one_answer_has_who_what_and_all_eight_times(street: Street) -> None:
    gold = street.client("gold")
    request = gold.read("PP-10")
    journey = gold.journey(request.id)
    assert (journey.third_party, journey.device, journey.gateway) == ("gold", "PP-10", "SPG-10")
    assert tuple(journey.times) == TIMES
    assert None not in journey.times.values()
    for writer in (OF_THE_CCS, OF_THE_GATEWAY):
        times: list[Any] = [journey.times[name] for name in writer]
        assert all(before <= after for before, after in pairwise(times))
    log = {row["step"] for row in street.utility.gateway_log("SPG-10") if row.get("message") == request.id}
    assert {"gateway_received", "passed_to_han", "answer_received", "passed_to_ccs"} <= log


@pytest.mark.req("F14")
def test_a_format_of_the_utilitys_own_is_taken_then_retired_and_refused(street: Street) -> None:
    gold, utility = street.client("gold"), street.utility
    file = utility.directory / "acme.json"
    file.write_text(json.dumps(FORMAT))
    place = ("--dir", str(utility.directory / "ccs"), "--database", utility.database)
    utility.command("formats", "add", str(file), *place)
    street.until(lambda: "acme.pump_read/1" in {f"{each.name}/{each.version}" for each in gold.formats()})
    time.sleep(RELOAD_S)  # every worker
    assert gold.read("PP-10", values=["on"], format="acme.pump_read/1").is_done
    with pytest.raises(Malformed, match="/body/values/0"):
        gold.read("PP-10", values=["power_w"], format="acme.pump_read/1")
    utility.command("formats", "retire", "acme.pump_read/1", *place)
    time.sleep(RELOAD_S)
    with pytest.raises(Malformed, match="format-version-retired"):
        gold.read("PP-10", values=["on"], format="acme.pump_read/1")
