"""What is refused, and how each is told: who asks, what is asked, how much, and what happens on the way.

The slow ones (a gateway that is off, a device that hangs, one that lies) begin first and are looked at last.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec

from doorward.client import Event, Request, ask
from doorward.client.records import Step as Told
from doorward.simulate.tour.evidence import FILE, JOURNAL, LOG, PARTY, Chapter, Seen, seen, us_of
from doorward.simulate.tour.neighbourhood import (
    COMPANY,
    CONTROLLED,
    DARK,
    MONITORED,
    OTHER,
    TALKATIVE,
)
from doorward.simulate.tour.plain import Bare, Plain
from doorward.simulate.tour.stage import Stage, final_us
from doorward.wire.steps import Step
from doorward.wire.times import from_rfc3339

LIAR, HANGING, DARK_DEVICE, WITHDRAWN = "PP-1", "TH-2", "WH-4", "HP-1"
PER_HOUR = 24
REFUSED_TOO_MANY = 3
DARK_DEADLINE = timedelta(seconds=6)
HANG_DEADLINE = timedelta(seconds=15)
FINAL_US_LATE_MAX = 3_000_000
"""How long after its deadline the final state of a request may be on record: upkeep looks twice a second."""
WARNING_WAIT_S_MAX = 10.0
RESPONSE_S_MAX = 60.0


def refusals(stage: Stage) -> Chapter:
    """Play all of them; each tells the third party why, and is on record."""
    stage.utility.processes[DARK.gateway].kill()
    stage.utility.processes.pop(DARK.gateway)
    stage.utility.resident(HANGING, "hang")
    stage.utility.resident(LIAR, "lie")
    dark = stage.send(ask.turn_off(DARK_DEVICE, deadline=DARK_DEADLINE))
    hanging = stage.send(ask.read(HANGING, deadline=HANG_DEADLINE))
    lied = stage.send(ask.turn_off(LIAR))
    steps = [*_who_and_what(stage), *_too_many(stage)]
    steps.append(_liar(stage, lied))
    steps += _unreachable(stage, dark)
    steps.append(_withheld(stage))
    steps.append(_hang(stage, hanging))
    return Chapter.of("refusals", steps)


# ---- who asks, and what -------------------------------------------------------------------------------------


def _who_and_what(stage: Stage) -> Iterator[Seen]:
    plain = Plain(stage.utility.url, OTHER, stage.utility.secret(OTHER))
    try:
        yield _recorded(
            stage, "F03", "wrong secret: invalid_client", plain.token("wrong"), 401, Step.AUTHENTICATED
        )
        stranger = plain.post({"operation": "read", "device": "PP-3"}, token="made.up.token")
        yield _recorded(stage, "F23", "made-up token: not-authenticated", stranger, 401, Step.AUTHENTICATED)
        not_mine = plain.post({"operation": "read", "device": "PP-1"})
        unknown = plain.post({"operation": "read", "device": "PP-999"})
        told = _recorded(
            stage, "F06", "no grant: answered as an unknown device", not_mine, 404, Step.AUTHORISED
        )
        same = (not_mine.status, not_mine.problem()) == (unknown.status, unknown.problem())
        yield (
            told
            if same
            else msgspec.structs.replace(told, ok=False, why="an unknown device is told otherwise")
        )
        yield _malformed(stage, plain)
    finally:
        plain.close()


def _recorded(stage: Stage, id: str, what: str, answer: Bare, status: int, *steps: Step) -> Seen:
    """Refused with that status, and on record under the id that the caller was told (F24)."""
    at_us, why = stage.refused_step(answer.request_id, steps)
    if answer.status != status:
        why = f"answered {answer.status}: {answer.body}"
    return seen(id, what, JOURNAL, at_us, why)


def _malformed(stage: Stage, plain: Plain) -> Seen:
    """F08: the answer names the place and the rule that was broken."""
    answer = plain.post({"operation": "program", "device": "PP-3", "body": {"intervals": [{"at": "25:00"}]}})
    told = _recorded(stage, "F08", "", answer, 422, Step.VALIDATED, Step.AUTHORISED)
    place, rule = answer.body.get("field", ""), answer.body.get("detail", "")
    named = answer.body.get("reason") == "format-invalid" and place.startswith("/body/intervals/0")
    why = told.why or ("" if named and rule else f"place and rule are not named: {answer.body}")
    return msgspec.structs.replace(told, ok=not why, why=why, what=f"malformed: {place}: {rule}"[:120])


# ---- how much -----------------------------------------------------------------------------------------------


def _too_many(stage: Stage) -> Iterator[Seen]:
    """F04, N01: 12 requests and their results are 24 transactions; what is over is refused and warned about."""
    device = TALKATIVE.equipment[0].id
    sent = stage.clients[OTHER].submit([ask.read(device)] * (PER_HOUR // 2), wait_s=20)
    done = sum(item.request is not None and item.request.state == "DONE" for item in sent)
    yield _limit(stage, device, done)
    plain = Plain(stage.utility.url, OTHER, stage.utility.secret(OTHER))
    try:
        asked_us = stage.clock.now_us()
        answers = [plain.post({"operation": "read", "device": device}) for _ in range(REFUSED_TOO_MANY)]
        yield _refused_politely(stage, answers[0], asked_us)
        yield _warned_each(stage, device, answers, asked_us)
    finally:
        plain.close()


def _limit(stage: Stage, device: str, done: int) -> Seen:
    left = stage.clients[OTHER].limits(TALKATIVE.service_point).windows[0]
    why = "" if done == PER_HOUR // 2 else f"only {done} of {PER_HOUR // 2} requests were done"
    if (left.limit, left.remaining) != (PER_HOUR, 0):
        why = why or f"{left.remaining} of {left.limit} remain"
    what = f"{done} requests and {done} results in an hour, all done"
    return seen("N01", what, PARTY, stage.clock.now_us(), why)


def _refused_politely(stage: Stage, answer: Bare, asked_us: int) -> Seen:
    told = _recorded(
        stage, "F04", "over the limit: 429 with Retry-After and RateLimit", answer, 429, Step.ADMITTED
    )
    wait = answer.headers.get("retry-after", "")
    why = told.why
    if answer.body.get("reason") != "limit-exceeded":
        why = why or f"the reason is {answer.body.get('reason')}"
    if not (wait.isdigit() and 3000 < int(wait) <= 3600):
        why = why or f"Retry-After is {wait!r}"
    if "r=0" not in answer.headers.get("ratelimit", ""):
        why = why or f"RateLimit is {answer.headers.get('ratelimit')!r}"
    return msgspec.structs.replace(told, ok=not why, why=why)


def _warned_each(stage: Stage, device: str, answers: list[Bare], asked_us: int) -> Seen:
    """F38: a warning for each at the third party's endpoint: message, destination, time received."""
    why, at_us = "", 0
    for answer in answers:
        event = stage.callbacks[OTHER].wait("request.warning", answer.request_id, WARNING_WAIT_S_MAX)
        at_us = stage.clock.now_us()
        why = why or _warning_wrong(event, answer.request_id, device, "limit-exceeded", asked_us)
    return seen("F38", f"{len(answers)} refused, each warned about at the endpoint", PARTY, at_us, why)


def _warning_wrong(event: Event | None, message: str, device: str, reason: str, asked_us: int) -> str:
    if event is None:
        return f"no warning about {message}"
    data = event.data
    wanted = {"message_id": message, "destination_id": device, "reason": reason}
    if any(data.get(name) != value for name, value in wanted.items()):
        return f"the warning says {data}"
    late_us = from_rfc3339(str(data["received"])) - asked_us
    return "" if -1_000_000 <= late_us <= 10_000_000 else f"received {data['received']}"


# ---- on the way ---------------------------------------------------------------------------------------------


def _unreachable(stage: Stage, sent: Request) -> Iterator[Seen]:
    """F20, F30, N07: no gateway: a warning that says why, one final state by the deadline, and nothing done."""
    event = stage.callbacks[COMPANY].wait("request.warning", sent.id, WARNING_WAIT_S_MAX)
    asked_us = us_of(sent.received) if sent.received else 0
    why = _warning_wrong(event, sent.id, DARK_DEVICE, "gateway-unreachable", asked_us)
    yield seen("F20", "gateway off: warned, gateway-unreachable", PARTY, stage.clock.now_us(), why)
    ended = stage.until_state(sent.id, WARNING_WAIT_S_MAX)
    entries = [each for each in stage.client.journey(sent.id).steps if _ends(each)]
    late_us = final_us(ended) - (us_of(ended.deadline) if ended.deadline else 0)
    if (ended.state, ended.reason) != ("EXPIRED", "gateway-unreachable"):
        why = f"it is {ended.state}: {ended.reason}"
    elif len(entries) != 1 or not -1_000 <= late_us <= FINAL_US_LATE_MAX:
        why = f"{len(entries)} final states, {late_us / 1e6:.1f} s after the deadline"
    else:
        why = "the device acted" if stage.utility.actuations(DARK_DEVICE) else ""
    yield seen("F30", "gateway off: EXPIRED by its deadline, once", JOURNAL, final_us(ended), why)


def _ends(entry: Told) -> bool:
    return entry.step in (Step.EXPIRED, Step.ANSWER_RECORDED)


def _withheld(stage: Stage) -> Seen:
    """S1.13: the answer is there, then the customer withdraws: it never leaves."""
    sent = stage.send(ask.read(WITHDRAWN))

    def recorded() -> bool | None:
        steps = {entry.step for entry in stage.client.journey(sent.id).steps}
        return True if Step.ANSWER_RECORDED in steps else None

    arrived = stage.until(recorded, WARNING_WAIT_S_MAX)
    stage.withdraw(COMPANY, MONITORED.service_point)
    request = stage.client.get(sent.id)
    entries = {entry.step: entry for entry in stage.client.journey(sent.id).steps}
    refused, withheld = entries.get(Step.TARGET_AUTHORISED), entries.get(Step.WITHHELD)
    if not arrived:
        why = "the answer did not arrive"
    elif request.answer != "WITHHELD" or request.result is not None or Step.HANDED_OVER in entries:
        why = f"the answer is {request.answer or 'open'}: {request.result}"
    elif refused is None or withheld is None or refused.outcome != "refused":
        why = f"the CCS's journal says {sorted(entries)}"
    else:
        why = ""
    at_us = us_of(withheld.at) if withheld else 0
    return seen("S1.13", "access withdrawn before the answer left: WITHHELD", JOURNAL, at_us, why)


# ---- at home ------------------------------------------------------------------------------------------------


def _liar(stage: Stage, sent: Request) -> Seen:
    """S2.10: a device that says yes and does nothing is not done."""
    ended = stage.until_state(sent.id, RESPONSE_S_MAX)
    did = [line for line in stage.utility.actuations(LIAR) if line["name"] == "on"]
    why = "" if (ended.state, ended.reason) == ("FAILED", "device-not-following") else _stands(ended)
    if not why and did:
        why = f"the device did it: {did}"
    return seen("S2.10", "a device that lies: FAILED, device-not-following", FILE, final_us(ended), why)


def _hang(stage: Stage, sent: Request) -> Seen:
    """N04: a device that does not answer holds up nobody: the gateway says so in time."""
    ended = stage.until_state(sent.id, RESPONSE_S_MAX)
    rows: list[dict[str, Any]] = [
        row for row in stage.utility.gateway_log(CONTROLLED.gateway) if row.get("message") == sent.id
    ]
    told = [row for row in rows if row["step"] == Step.PASSED_TO_CCS]
    if (ended.state, ended.reason) != ("FAILED", "device-unavailable"):
        why = _stands(ended)
    elif not told or told[0]["outcome"] == "ok":
        why = f"the gateway's log says {rows}"
    else:
        why = "" if final_us(ended) <= (us_of(ended.deadline) if ended.deadline else 0) else "it was late"
    return seen("N04", "a device that hangs: FAILED, device-unavailable, in time", LOG, final_us(ended), why)


def _stands(request: Request) -> str:
    return f"it is {request.state}: {request.reason} {request.detail or ''}"
