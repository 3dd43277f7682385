"""A developer's pages: start, credentials, requests, webhooks. All of the company that the person is of."""

import base64
import shlex
from urllib.parse import urlencode

import msgspec
from msgspec.structs import replace
from starlette.responses import Response

from doorward.ccs.doors.portal.visit import Page, Visit, problem_of
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import FAR_US, Credential, Endpoint, Event, Party, Request
from doorward.ccs.rules.homes import PartyNote
from doorward.ccs.rules.rights import Act
from doorward.ccs.tokens import CREDENTIALS_MAX
from doorward.kit.ids import time_of_us
from doorward.wire.reasons import Reason, Refused

ROOT = "/portal/workbench"
REQUESTS_A_PAGE = 25
EVENTS_A_PAGE = 25
NOTES_SHOWN = 10
RESULTS_LOOKED_AT = 200
"""Requests, newest first, among which a result that was taken is looked for."""
SECRET_BYTES = 32
STATES: dict[str, tuple[str, tuple[str, ...]]] = {
    # key → (what it is called, states of requests)
    "": ("All", ()),
    "open": ("On their way", ("ACCEPTED", "QUEUED", "SENT", "AT_GATEWAY")),
    "done": ("Done", ("DONE",)),
    "not-done": ("Not done", ("FAILED", "EXPIRED", "UNCONFIRMED", "CANCELLED")),
    "refused": ("Refused", ("REFUSED",)),
}
PUSHES = {"pending": "waiting", "done": "done", "dead": "failed", "withheld": "kept back"}
"""State of an event's pushing → the word that people read."""


class Milestone(msgspec.Struct, frozen=True, kw_only=True):
    """A step on the way to live: reached or not, by what is in the books."""

    name: str
    reached: bool
    next: str
    """What to do to reach it."""


async def _party(books: AllBooks, visit: Visit) -> Party:
    """Return the company that this person is of; raise ``not-found`` where there is none."""
    found = (await books.parties([visit.who.of])).get(visit.who.of)
    if found is None:
        raise Refused(Reason.NOT_FOUND)
    return found


def _note(visit: Visit, words: str) -> PartyNote:
    who = visit.who
    return PartyNote(
        id=visit.new_id(), party=who.of, at_us=visit.now_us, words=words, by=who.id, by_name=who.name
    )


# ---- start -----------------------------------------------------------------------------------------------


async def start(visit: Visit) -> Response:
    """Show how to begin: the client id, a token, the first call; and how far the company has come."""

    async def step(books: AllBooks) -> tuple[Party, list[Milestone], str, list[PartyNote]]:
        party = await _party(books, visit)
        grants = await books.grants_of(party.id, limit=1)
        devices = grants[0].document.devices if grants else []
        device = devices[0].device if devices else ""
        notes = await books.party_notes(party.id, limit=NOTES_SHOWN)
        return party, await _milestones(books, party), device, notes

    party, milestones, device, notes = await visit.read(step)
    issuer = visit.parts.issuer
    body = msgspec.json.encode({"device": device or "DEVICE", "operation": "read"}).decode()
    return visit.render(
        "workbench/start.html",
        party=party,
        milestones=milestones,
        next=next((each for each in milestones if not each.reached), None),
        device=device,
        notes=notes,
        token_curl=(
            f'curl -u {shlex.quote(party.id)}:"$SECRET" \\\n'
            f"  -d grant_type=client_credentials \\\n  {issuer}/oauth/token"
        ),
        call_curl=_curl(issuer, body),
    )


def _curl(issuer: str, body: str) -> str:
    return (
        f'curl -H "Authorization: Bearer $TOKEN" \\\n  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)} \\\n  {issuer}/v1/requests"
    )


async def _milestones(books: AllBooks, party: Party) -> list[Milestone]:
    credentials = await books.credentials(party.id)
    requests = await books.list_requests(party.id, limit=1)
    endpoints = (await books.endpoints([party.id])).get(party.id, [])
    done = await books.list_requests(party.id, states=["DONE"], limit=RESULTS_LOOKED_AT)
    return [
        Milestone(
            name="Registered, with a credential",
            reached=bool(credentials),
            next="Make a secret under Credentials.",
        ),
        Milestone(name="First call", reached=bool(requests), next="Run the two commands on this page."),
        Milestone(
            name="First result taken",
            reached=any(each.answer == "DELIVERED" for each in done),
            next="Wait for a request's result, poll it, or take it by a webhook.",
        ),
        Milestone(
            name="Webhook proved",
            reached=any(each.state == "proved" for each in endpoints),
            next="Set an endpoint by the API, then prove it under Webhooks.",
        ),
    ]


# ---- credentials -----------------------------------------------------------------------------------------


async def credentials(visit: Visit) -> Response:
    """Show the company's credentials; never a secret."""
    return await _credentials(visit)


async def _credentials(visit: Visit, status: int = 200, **more: object) -> Response:
    async def step(books: AllBooks) -> tuple[Party, list[Credential], list[PartyNote]]:
        party = await _party(books, visit)
        notes = await books.party_notes(party.id, limit=NOTES_SHOWN)
        return party, await books.credentials(party.id), notes

    party, held, notes = await visit.read(step)
    return visit.render(
        "workbench/credentials.html",
        status,
        party=party,
        held=held,
        far_us=FAR_US,
        max=CREDENTIALS_MAX,
        notes=notes,
        made={each.id: _made_us(each.id) for each in held},
        **({"secret": "", "said": visit.query("done")} | more),
    )


def _made_us(id: str) -> int:
    """Return when a credential was made, 0 for one that came from the utility's file."""
    try:
        return time_of_us(id)
    except ValueError:
        return 0


async def make_secret(visit: Visit) -> Response:
    """Make a secret, show it this once, and keep only its hash."""
    secret = base64.urlsafe_b64encode(visit.parts.journey.rng.randbytes(SECRET_BYTES)).decode().rstrip("=")
    hashed = await visit.parts.hashed(secret)

    async def step(books: AllBooks) -> None:
        party = await _party(books, visit)
        if party.auth != "secret":
            raise Refused(Reason.NOT_FOUND)
        if len(await books.credentials(party.id)) >= CREDENTIALS_MAX:
            raise Refused(Reason.TOO_LATE, f"you have {CREDENTIALS_MAX} secrets; revoke one first")
        made = Credential(id=visit.new_id(), party=party.id, kind="secret", value=hashed)
        await books.put_credentials([made])
        await books.put_party_notes([_note(visit, f"made the secret {made.id[-8:]}")])

    try:
        await visit.write(step)
    except Refused as refusal:
        if refusal.reason is not Reason.TOO_LATE:
            raise
        return await _credentials(visit, 409, problem=problem_of(refusal))
    shown = await _credentials(visit, secret=secret)
    shown.headers["cache-control"] = "no-store"
    return shown


async def revoke(visit: Visit) -> Response:
    """End a credential and every token that is out: whoever has another gets a new token by it."""
    id = visit.path("credential")

    async def step(books: AllBooks) -> None:
        party = await _party(books, visit)
        held = {each.id: each for each in await books.credentials(party.id)}
        if id not in held or held[id].kind != "secret":
            raise Refused(Reason.NOT_FOUND)
        await books.put_credentials([replace(held[id], not_after_us=visit.now_us)])
        await books.put_parties([replace(party, tokens_not_before_us=visit.now_us)])
        await books.put_party_notes([_note(visit, f"revoked the secret {id[-8:]}")])

    await visit.write(step)
    return visit.go(f"{ROOT}/credentials", done="revoked")


# ---- requests --------------------------------------------------------------------------------------------


async def requests(visit: Visit) -> Response:
    """Show the company's requests, newest first, a page at a time."""
    chosen, device, after = visit.query("state"), visit.query("device").strip(), visit.query("after")
    if chosen not in STATES:
        raise Refused(Reason.NOT_FOUND)

    async def step(books: AllBooks) -> list[Request]:
        party = await _party(books, visit)
        return await books.list_requests(
            party.id, after=after, limit=REQUESTS_A_PAGE + 1, states=STATES[chosen][1], device=device
        )

    found = await visit.read(step)
    rows = found[:REQUESTS_A_PAGE]
    kept = {"state": chosen, "device": device}
    return visit.render(
        "workbench/requests.html",
        rows=rows,
        curls={each.id: _request_curl(visit.parts.issuer, each) for each in rows},
        chosen=chosen,
        device=device,
        states={key: name for key, (name, _) in STATES.items()},
        links={key: urlencode({"state": key, "device": device}) for key in STATES},
        first=urlencode(kept) if after else "",
        older=urlencode(kept | {"after": rows[-1].id}) if len(found) > REQUESTS_A_PAGE else "",
    )


def _request_curl(issuer: str, request: Request) -> str:
    """Return a call that asks the same again."""
    body: dict[str, object] = {"operation": request.operation}
    if request.device:
        body["device"] = request.device
    else:
        body |= {"service_point": request.service_point, "scope": request.scope}
    if bytes(request.body) not in (b"{}", b"null", b""):
        body["body"] = request.body
    return _curl(issuer, msgspec.json.encode(body).decode())


# ---- webhooks --------------------------------------------------------------------------------------------


async def webhooks(visit: Visit) -> Response:
    """Show the company's endpoints and what was pushed to them."""
    return await _webhooks(visit)


async def _webhooks(visit: Visit, status: int = 200, **more: object) -> Response:
    before = visit.query("before")

    async def step(books: AllBooks) -> tuple[list[Endpoint], list[Event]]:
        party = await _party(books, visit)
        endpoints = (await books.endpoints([party.id])).get(party.id, [])
        return endpoints, await books.pushed(party.id, before=before, limit=EVENTS_A_PAGE + 1)

    endpoints, events = await visit.read(step)
    rows = events[:EVENTS_A_PAGE]
    return visit.render(
        "workbench/webhooks.html",
        status,
        endpoints=endpoints,
        rows=rows,
        words=PUSHES,
        paged=bool(before),
        older=urlencode({"before": rows[-1].cursor}) if len(events) > EVENTS_A_PAGE else "",
        issuer=visit.parts.issuer,
        **({"secret": "", "of": "", "said": visit.query("done")} | more),
    )


async def rotate(visit: Visit) -> Response:
    """Give an endpoint a new secret, shown this once; the one before goes on signing beside it."""
    id = visit.path("endpoint")
    secret = await visit.parts.endpoints.rotate(
        visit.who.of,
        id,
        lambda books: books.put_party_notes([_note(visit, f"gave the webhook {id} a new secret")]),
    )
    shown = await _webhooks(visit, secret=secret, of=id)
    shown.headers["cache-control"] = "no-store"
    return shown


async def prove(visit: Visit) -> Response:
    """Send an endpoint the challenge, and say what came of it."""
    id = visit.path("endpoint")
    try:
        await visit.parts.endpoints.prove_for(visit.who.of, id)
    except Refused as refusal:
        if refusal.reason is not Reason.NO_PROOF:
            raise
        return await _webhooks(visit, 409, problem=problem_of(refusal))
    await visit.write(lambda books: books.put_party_notes([_note(visit, f"proved the webhook {id}")]))
    return visit.go(f"{ROOT}/webhooks", done="proved")


async def resend(visit: Visit) -> Response:
    """Push an event again, under the id that it has: whoever took it knows it again."""
    id = visit.path("event")

    async def step(books: AllBooks) -> None:
        event = (await books.events([id])).get(id)
        if event is None or event.party != visit.who.of or event.webhook in ("none", "withheld"):
            raise Refused(Reason.NOT_FOUND)
        await books.update_events([replace(event, webhook="pending", next_us=visit.now_us)])
        await books.put_party_notes([_note(visit, f"sent the event {id} again")])

    await visit.write(step)
    visit.parts.journey.pushing.look([visit.who.of])
    return visit.go(f"{ROOT}/webhooks", done="resent")


PAGES = [
    Page("GET", "/workbench", Act.SEE_COMPANY, start),
    Page("GET", "/workbench/credentials", Act.SEE_COMPANY, credentials),
    Page("POST", "/workbench/credentials", Act.CHANGE_COMPANY, make_secret),
    Page("POST", "/workbench/credentials/{credential}/revoke", Act.CHANGE_COMPANY, revoke),
    Page("GET", "/workbench/requests", Act.SEE_COMPANY, requests),
    Page("GET", "/workbench/webhooks", Act.SEE_COMPANY, webhooks),
    Page("POST", "/workbench/webhooks/{endpoint}/rotate", Act.CHANGE_COMPANY, rotate),
    Page("POST", "/workbench/webhooks/{endpoint}/prove", Act.CHANGE_COMPANY, prove),
    Page("POST", "/workbench/events/{event}/resend", Act.CHANGE_COMPANY, resend),
]
