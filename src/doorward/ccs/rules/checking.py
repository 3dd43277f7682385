"""The check of a home that a representative sees on opening it (S4.02): questions, answers, one sentence.

It asks what the books know and sends nothing: whether service is on, contracts run, permissions hold, the
gateway is there and has what it should have, and how the last messages went.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from doorward.ccs.rules.contracts import Contract, is_running
from doorward.ccs.rules.facts import Gateway, Grant, Request, ServicePoint
from doorward.wire.reasons import SENTENCES

Word = Literal["good", "look", "bad"]
SEEN_LATELY_US = 15 * 60 * 1_000_000
"""A gateway that was heard of since then is taken to be there."""
TROUBLED = ("FAILED", "EXPIRED", "UNCONFIRMED")
"""States of a message that something at the home is behind, not a missing right."""
REFUSED_MANY = 3


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One question, how it stands, and the answer in words. ``at_us`` is the moment that the words end on."""

    question: str
    word: Word
    said: str
    at_us: int = 0


class ServiceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a company has at a home."""

    name: str
    tier_known: bool
    suspended: bool
    grant: Grant | None
    contract: Contract | None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the check stands on. ``recent`` are the last messages, newest first."""

    point: ServicePoint
    gateway: Gateway | None
    connected: bool
    devices: int
    services: list[ServiceFacts]
    recent: list[Request]
    names: dict[str, str]
    now_us: int


def check(facts: Facts) -> list[Answer]:
    """Answer all questions, in the order in which a message meets them."""
    return [
        _service(facts),
        *(answer for each in facts.services for answer in _access(each, facts.now_us)),
        _gateway(facts),
        _holds(facts),
        _devices(facts),
        _messages(facts.recent),
    ]


def finding(facts: Facts, answers: Sequence[Answer]) -> str:
    """Return what is most likely the matter, in one sentence."""
    bad = [answer for answer in answers if answer.word == "bad"]
    if bad:
        return f"Most likely: {bad[0].said[:1].lower()}{bad[0].said[1:]}"
    trouble = next((each for each in facts.recent if each.state in TROUBLED), None)
    newest = facts.recent[0] if facts.recent else None
    if trouble is not None and trouble is newest:
        device = facts.names.get(trouble.device, trouble.device) or "the home"
        reason = SENTENCES[trouble.reason] if trouble.reason is not None else "no proof that it was done"
        return f"Most likely: the last message for {device} did not succeed ({_plain(reason)})."
    look = [answer for answer in answers if answer.word == "look"]
    if look:
        return f"Nothing is broken. To look at: {look[0].said[:1].lower()}{look[0].said[1:]}"
    return (
        "Nothing is wrong that the books know of: service, permissions and the gateway are as they should be."
    )


def _service(facts: Facts) -> Answer:
    on = facts.point.service == "on"
    said = "Service is on." if on else "Service at this address is off; every request is refused."
    return Answer(question="Is service on?", word="good" if on else "bad", said=said)


def _access(service: ServiceFacts, now_us: int) -> list[Answer]:
    return [_contract(service, now_us), _permission(service, now_us)]


def _contract(service: ServiceFacts, now_us: int) -> Answer:
    question = f"Does the contract with {service.name} run?"
    contract = service.contract
    if contract is None and service.grant is not None:
        said = (
            f"There is no contract with {service.name} here; its permission came from the utility's papers."
        )
        return Answer(question=question, word="look", said=said)
    if contract is None:
        return Answer(question=question, word="look", said=f"There is no contract with {service.name}.")
    if is_running(contract, now_us):
        level = f'its service level is "{contract.tier}"'
        if not service.tier_known:
            return Answer(question=question, word="bad", said=f"{level}, which does not exist any more.")
        return Answer(question=question, word="good", said=f"The contract runs; {level}.")
    waits = {"drafted": "waits for the customer's signature", "signed": "waits for our approval"}
    said = f"The contract with {service.name} {waits.get(contract.state, 'has ended')}."
    return Answer(question=question, word="look", said=said)


def _permission(service: ServiceFacts, now_us: int) -> Answer:
    question = f"May {service.name} reach devices here?"
    grant = service.grant
    if service.suspended:
        return Answer(
            question=question, word="bad", said=f"{service.name} is suspended; we refuse all it asks."
        )
    if grant is None:
        return Answer(
            question=question, word="look", said=f"The customer has permitted {service.name} nothing."
        )
    if grant.state != "live":
        said = f"The customer's permission for {service.name} was stopped."
        return Answer(question=question, word="look", said=said)
    if now_us >= grant.document.expires_us:
        said = f"The customer's permission for {service.name} ended on its last day."
        return Answer(question=question, word="look", said=said, at_us=grant.document.expires_us)
    if now_us < grant.document.paused_until_us:
        said = f"The customer's permission for {service.name} is paused until"
        return Answer(question=question, word="look", said=said, at_us=grant.document.paused_until_us)
    count = len(grant.document.devices)
    said = f"The permission for {service.name} holds: {count} device{'' if count == 1 else 's'}, until"
    return Answer(question=question, word="good", said=said, at_us=grant.document.expires_us)


def _devices(facts: Facts) -> Answer:
    count = facts.devices
    said = (
        f"{count} device{' is' if count == 1 else 's are'} known." if count else "No device is set up here."
    )
    return Answer(question="Are the devices known?", word="good" if count else "bad", said=said)


def _gateway(facts: Facts) -> Answer:
    question, gateway = "Is the gateway there?", facts.gateway
    if gateway is None:
        return Answer(question=question, word="bad", said="There is no gateway at this address.")
    if gateway.state == "expected":
        return Answer(question=question, word="bad", said=f"Gateway {gateway.id} has not come to us yet.")
    if gateway.state == "revoked":
        said = f"Gateway {gateway.id} is locked out; it has to be exchanged."
        return Answer(question=question, word="bad", said=said)
    if facts.connected:
        return Answer(question=question, word="good", said=f"Gateway {gateway.id} is connected.")
    if not gateway.seen_us:
        return Answer(question=question, word="bad", said=f"Gateway {gateway.id} was never heard of.")
    if facts.now_us - gateway.seen_us < SEEN_LATELY_US:
        said = f"Gateway {gateway.id} was heard of lately, at"
        return Answer(question=question, word="good", said=said, at_us=gateway.seen_us)
    said = f"Gateway {gateway.id} is away; it was last heard of at"
    return Answer(question=question, word="bad", said=said, at_us=gateway.seen_us)


def _holds(facts: Facts) -> Answer:
    question, gateway = "Has the gateway the newest permissions?", facts.gateway
    if gateway is None or gateway.state != "enrolled":
        return Answer(question=question, word="look", said="There is no gateway to hold them.")
    if gateway.applied_version >= gateway.desired_version:
        return Answer(question=question, word="good", said="It confirmed the newest ones.")
    behind = gateway.desired_version - gateway.applied_version
    said = f"It is {behind} change{'' if behind == 1 else 's'} behind; it is told again when it is connected."
    return Answer(question=question, word="look", said=said)


def _messages(recent: Sequence[Request]) -> Answer:
    question = "How did the last messages go?"
    if not recent:
        return Answer(question=question, word="look", said="No company has sent a message to this home yet.")
    troubled = [each for each in recent if each.state in TROUBLED]
    refused = sum(each.state == "REFUSED" for each in recent)
    done = sum(each.state == "DONE" for each in recent)
    said = f"Of the last {len(recent)}, {done} were done, {len(troubled)} failed, {refused} were refused."
    return Answer(
        question=question, word="look" if troubled or refused >= REFUSED_MANY else "good", said=said
    )


def _plain(sentence: str) -> str:
    return f"{sentence[:1].lower()}{sentence[1:]}".rstrip(".")
