"""One plain sentence per step of a journey."""

from types import MappingProxyType

from doorward.ccs.rules.facts import StepRecord
from doorward.wire.reasons import SENTENCES
from doorward.wire.steps import Outcome, Step

_SENTENCES: MappingProxyType[Step, str] = MappingProxyType(
    {
        Step.RECEIVED: "The company's request arrived at the utility.",
        Step.AUTHENTICATED: "The utility checked who is asking.",
        Step.VALIDATED: "The utility checked the form of the message.",
        Step.AUTHORISED: "The utility checked the customer's permission.",
        Step.ADMITTED: "The utility checked the limits.",
        Step.RECORDED: "The request and the decision were put on record.",
        Step.DESTINATION_AUTHENTICATED: "The gateway at the home proved who it is.",
        Step.PASSED_TO_GATEWAY: "The request was sent to the gateway.",
        Step.GATEWAY_RECEIVED: "The gateway confirmed that it has the request.",
        Step.GATEWAY_CHECKED: "The gateway checked the permission again.",
        Step.PASSED_TO_HAN: "The gateway passed it to the home network.",
        Step.DEVICE_ANSWERED: "The device answered.",
        Step.ANSWER_RECEIVED: "The gateway has the device's answer.",
        Step.PASSED_TO_CCS: "The gateway passed the answer to the utility.",
        Step.ANSWER_RECORDED: "The utility put the answer on record.",
        Step.TARGET_AUTHENTICATED: "The utility checked who is to have the answer.",
        Step.TARGET_AUTHORISED: "The utility checked the permission again, at that moment.",
        Step.HANDING_OVER: "The answer was handed over.",
        Step.HANDED_OVER: "The hand-over was put on record.",
        Step.QUARANTINED: "The utility holds the request back, for it would move too much load at once.",
        Step.QUARANTINE_DECIDED: "An operator of the utility decided about the request that was held back.",
        Step.CANCEL_ASKED: "The request was asked to be cancelled.",
        Step.RECHARGED: "The request had waited long and was counted anew.",
        Step.EXPIRED: "The deadline passed.",
        Step.WARNED: "The company was warned.",
        Step.WITHHELD: "The answer was kept back.",
        Step.UNDELIVERED: "The answer could not be handed over.",
        Step.SETTLED: "Proof of what happened arrived later.",
        Step.REFUSED: "The attempt was refused.",
        Step.ENROLLED: "A gateway was enrolled.",
        Step.GRANTED: "A customer gave permission, or it was changed.",
        Step.WITHDRAWN: "A permission was withdrawn.",
        Step.RELEASED: "The device went back to the customer's own setting.",
    }
)


def sentence(step: StepRecord) -> str:
    """Return what happened, in words, with the reason where it went wrong."""
    said = _SENTENCES[step.step]
    if step.outcome in (Outcome.REFUSED, Outcome.FAILED) and step.reason is not None:
        return f"{said} {SENTENCES[step.reason]}"
    return said
