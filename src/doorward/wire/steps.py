"""The steps of a message's journey, in order, and where each stands in the use case.

The journal records these words. ``SCENARIO`` maps a step to the catalogue's ids for monitoring
(scenario 1) and control (scenario 2); pages and the tour read it, so there is one list only.
"""

from enum import StrEnum
from types import MappingProxyType


class Actor(StrEnum):
    """Who did a step."""

    THIRD_PARTY = "third_party"
    CCS = "ccs"
    GATEWAY = "gateway"
    HAN = "han"
    DEVICE = "device"
    CUSTOMER = "customer"
    UTILITY = "utility"


class Step(StrEnum):
    """One thing that happens to a message."""

    RECEIVED = "received"
    AUTHENTICATED = "authenticated"
    VALIDATED = "validated"
    AUTHORISED = "authorised"
    ADMITTED = "admitted"
    RECORDED = "recorded"
    DESTINATION_AUTHENTICATED = "destination_authenticated"
    PASSED_TO_GATEWAY = "passed_to_gateway"
    GATEWAY_RECEIVED = "gateway_received"
    GATEWAY_CHECKED = "gateway_checked"
    PASSED_TO_HAN = "passed_to_han"
    DEVICE_ANSWERED = "device_answered"
    ANSWER_RECEIVED = "answer_received"
    PASSED_TO_CCS = "passed_to_ccs"
    ANSWER_RECORDED = "answer_recorded"
    TARGET_AUTHENTICATED = "target_authenticated"
    TARGET_AUTHORISED = "target_authorised"
    HANDING_OVER = "handing_over"
    HANDED_OVER = "handed_over"
    # beside the straight way
    QUARANTINED = "quarantined"
    QUARANTINE_DECIDED = "quarantine_decided"
    CANCEL_ASKED = "cancel_asked"
    RECHARGED = "recharged"
    EXPIRED = "expired"
    WARNED = "warned"
    WITHHELD = "withheld"
    UNDELIVERED = "undelivered"
    SETTLED = "settled"
    REFUSED = "refused"
    RELEASED = "released"
    # no message's, but a gateway's own
    ENROLLED = "enrolled"
    # a permission's
    GRANTED = "granted"
    WITHDRAWN = "withdrawn"


class Outcome(StrEnum):
    """How a step went."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"
    WAITING = "waiting"


SCENARIO: MappingProxyType[Step, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        Step.RECEIVED: (("S1.01",), ("S2.03",)),
        Step.AUTHENTICATED: (("S1.02",), ("S2.04",)),
        Step.AUTHORISED: (("S1.03",), ("S2.04",)),
        Step.RECORDED: (("S1.04",), ("S2.05",)),
        Step.DESTINATION_AUTHENTICATED: (("S1.04b",), ()),
        Step.PASSED_TO_GATEWAY: (("S1.05",), ("S2.06",)),
        Step.GATEWAY_RECEIVED: (("S1.06",), ()),
        Step.PASSED_TO_HAN: (("S1.07", "S1.08"), ("S2.07", "S2.08")),
        Step.DEVICE_ANSWERED: (("S1.09",), ("S2.09", "S2.10")),
        Step.ANSWER_RECEIVED: (("S1.10",), ("S2.11",)),
        Step.PASSED_TO_CCS: (("S1.11",), ("S2.12",)),
        Step.TARGET_AUTHENTICATED: (("S1.12",), ("S2.13",)),
        Step.TARGET_AUTHORISED: (("S1.13", "S1.14"), ("S2.14", "S2.15")),
        Step.ANSWER_RECORDED: (("S1.15",), ("S2.16",)),
        Step.HANDING_OVER: (("S1.16",), ("S2.17",)),
        Step.HANDED_OVER: (("S1.17",), ("S2.18",)),
    }
)
"""Step → (ids in scenario 1, ids in scenario 2)."""


ACTOR: MappingProxyType[Step, Actor] = MappingProxyType(
    {
        Step.RECEIVED: Actor.THIRD_PARTY,
        Step.GATEWAY_RECEIVED: Actor.GATEWAY,
        Step.GATEWAY_CHECKED: Actor.GATEWAY,
        Step.PASSED_TO_HAN: Actor.GATEWAY,
        Step.DEVICE_ANSWERED: Actor.DEVICE,
        Step.ANSWER_RECEIVED: Actor.GATEWAY,
        Step.PASSED_TO_CCS: Actor.GATEWAY,
        Step.RELEASED: Actor.GATEWAY,
        Step.ENROLLED: Actor.GATEWAY,
        Step.GRANTED: Actor.CUSTOMER,
        Step.WITHDRAWN: Actor.CUSTOMER,
        Step.QUARANTINE_DECIDED: Actor.UTILITY,
        Step.CANCEL_ASKED: Actor.THIRD_PARTY,
    }
)
"""Who does a step; every step not listed is the CCS's."""


def actor_of(step: Step) -> Actor:
    """Return who does ``step``."""
    return ACTOR.get(step, Actor.CCS)
