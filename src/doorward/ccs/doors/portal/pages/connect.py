"""Letting a company in, and changing what it may do: who → which devices and what → how long and check.

Three pages, each a whole form; what was chosen travels in the form, so that nothing is kept before the yes.
"""

from datetime import datetime, time, timedelta
from hashlib import sha256
from zoneinfo import ZoneInfo

import msgspec
from starlette.responses import Response

from doorward.ccs.agreeing import Done
from doorward.ccs.doors.portal.visit import Page, Problem, Visit, problem_of
from doorward.ccs.doors.portal.words import local
from doorward.ccs.homes import Home, status_of
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.contracts import Contract, Offer, is_running, text_of
from doorward.ccs.rules.facts import Device, Grant, Tier
from doorward.ccs.rules.rights import Act
from doorward.ccs.rules.wording import Verb, denied_words, operations_of, permit_words, verbs_in, verbs_of
from doorward.wire.grants import Bounds, DevicePermit
from doorward.wire.reasons import Reason, Refused
from doorward.wire.vocabulary import DeviceClass, Operation

DAYS_DEFAULT = 365
DAYS_MAX = 365 * 5
WARM = (DeviceClass.THERMOSTAT, DeviceClass.HEAT_PUMP, DeviceClass.WATER_HEATER)
CELSIUS = (-10.0, 90.0)
WATTS_MAX = 100_000.0
EXAMPLES: dict[Verb, str] = {
    Verb.SEE: "what it does now, and how much power it draws",
    Verb.SWITCH: "turn it on and off",
    Verb.LIMIT: "lower how much power it draws, for a time",
    Verb.SET: "change its temperature or mode, for a time",
    Verb.SCHEDULE: "give it a plan for the day",
}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One device on the page of devices: what may be chosen, what is chosen, and why it cannot be."""

    device: Device
    verbs: list[Verb]
    chosen: list[Verb]
    wanted: list[Verb]
    fields: dict[str, str]
    why_not: str = ""


async def choose(visit: Visit) -> Response:
    """Show the companies that can be let in."""
    found = await visit.home(visit.path("point"), "connecting a service")
    offers = [
        (offer, found.service(offer.party), status_of(found.grant_of(offer.party), None, visit.now_us))
        for offer in found.offers.values()
        if offer.open and found.parties[offer.party].state == "active"
    ]
    return visit.render("home/connect.html", home=found, zone=found.point.timezone, offers=offers)


async def who(visit: Visit) -> Response:
    """Step 1: who is it?"""
    found, offer = await _offered(visit)
    return visit.render("home/connect_who.html", **_about(found, offer))


async def which(visit: Visit) -> Response:
    """Step 2: which devices, and what with them? Nothing is ticked that was not chosen before."""
    found, offer = await _offered(visit)
    grant = _held(found, offer.party)
    chosen = {permit.device: permit for permit in grant.document.devices} if grant else {}
    choices = [
        _choice(device, offer, chosen.get(device.id), visit.who.fahrenheit) for device in found.devices
    ]
    return visit.render("home/connect_which.html", **_about(found, offer), choices=choices)


def _choice(device: Device, offer: Offer, permit: DevicePermit | None, fahrenheit: bool) -> Choice:
    wanted = [Operation(each) for each in offer.wants.get(device.device_class, ())]
    return Choice(
        device=device,
        verbs=verbs_of(device.device_class),
        chosen=verbs_in(permit.operations) if permit else [],
        wanted=verbs_in(wanted),
        fields=_fields(permit.bounds, fahrenheit) if permit else {},
        why_not="" if wanted or not offer.wants else "this service does not work with it",
    )


def _fields(bounds: Bounds, fahrenheit: bool) -> dict[str, str]:
    """Return bounds as the form's fields hold them."""

    def warm(celsius: float | None) -> str:
        if celsius is None:
            return ""
        return _short(celsius * 9 / 5 + 32 if fahrenheit else celsius)

    begin, end = bounds.between or (None, None)
    return {
        "low": warm(bounds.celsius_min),
        "high": warm(bounds.celsius_max),
        "least_w": _short(bounds.watts_min),
        "most_w": _short(bounds.watts_max),
        "times": _short(bounds.times_per_day),
        "hours": _short(bounds.hours_max),
        "from": "" if begin is None else f"{begin // 60:02}:{begin % 60:02}",
        "to": "" if end is None else f"{end // 60:02}:{end % 60:02}",
    }


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}".removesuffix(".0")


async def check(visit: Visit) -> Response:
    """Step 3: how long, and is it right? What is wrong with step 2 leads back to it."""
    found, offer = await _offered(visit)
    try:
        permits = permits_of(visit, found)
    except Refused as refusal:
        return _again(visit, found, offer, problem_of(refusal))
    return await _check(visit, found, offer, permits, None)


async def _check(
    visit: Visit, found: Home, offer: Offer, permits: list[DevicePermit], problem: Problem | None
) -> Response:
    grant, contract = _held(found, offer.party), found.contract_of(offer.party)
    tier = (await visit.read(lambda books: books.tiers())).get(offer.tier)
    if tier is None:
        raise Refused(Reason.NOT_FOUND)
    until = visit.field("until") or _until_default(visit, found, grant)
    fahrenheit = visit.who.fahrenheit
    names, agreement = found.names, _agreement(visit, found, offer, tier)
    return visit.render(
        "home/connect_check.html",
        422 if problem else 200,
        **_about(found, offer),
        kept=[(name, value) for name, values in visit.form.items() for value in values if ":" in name],
        sentences=[permit_words(each, names[each.device], fahrenheit) for each in permits],
        denied=_denied(found, permits),
        until=until,
        latest=_day(visit, found, DAYS_MAX),
        tier=tier,
        needs_contract=contract is None or not is_running(contract, visit.now_us),
        agreement=agreement,
        text_hash=sha256(agreement.encode()).hexdigest(),
        version=grant.version if grant else 0,
        problem=problem,
    )


def _agreement(visit: Visit, found: Home, offer: Offer, tier: Tier) -> str:
    customer = found.customer_name or found.customer
    party = found.parties[offer.party]
    return text_of(party, offer, customer, found.point, tier, visit.parts.utility)


def _denied(found: Home, permits: list[DevicePermit]) -> list[str]:
    allowed = {permit.device for permit in permits}
    said = [denied_words(permit, found.names[permit.device]) for permit in permits]
    none = [f"see or control {device.name}" for device in found.devices if device.id not in allowed]
    return [each for each in said if each] + none


def _until_default(visit: Visit, found: Home, grant: Grant | None) -> str:
    if grant is None:
        return _day(visit, found, DAYS_DEFAULT)
    last = local(grant.document.expires_us - 1, found.point.timezone).date().isoformat()
    return min(last, _day(visit, found, DAYS_MAX))


def _day(visit: Visit, found: Home, days: int) -> str:
    return (local(visit.now_us, found.point.timezone).date() + timedelta(days=days)).isoformat()


async def allow(visit: Visit) -> Response:
    """The yes: the contract is signed where there is none, and access given, in one transaction."""
    found, offer = await _offered(visit)
    if visit.field("answer") != "allow":
        return visit.go(f"/portal/homes/{found.id}/services", done="not-allowed")
    permits = permits_of(visit, found)
    try:
        until_us = _until_us(visit, found)
        if not visit.field("agreed") and visit.field("needs_contract"):
            visit.wrong("agreed", "tick that you agree, or choose “Do not allow”")
    except Refused as refusal:
        return await _check(visit, found, offer, permits, problem_of(refusal))
    by = visit.by()
    agreeing, version = visit.parts.desk.agreeing, visit.field("version")
    text_hash = visit.field("text_hash")

    async def step(books: AllBooks, now_us: int) -> Done:
        grant = (await books.grants([(offer.party, found.id)])).get((offer.party, found.id))
        standing = grant.version if grant and grant.state == "live" else 0
        if version != str(standing):
            raise Refused(
                Reason.TOO_LATE, "the permission was changed since this page was opened; look at it again"
            )
        contract = found.contract_of(offer.party)
        if contract is None or not contract.is_open or contract.state == "drafted":
            contract = await agreeing.draft(
                books,
                by,
                party=offer.party,
                customer=found.customer,
                service_point=found.id,
                ends_us=until_us,
                now_us=now_us,
            )
            contract = await agreeing.sign(books, by, contract.id, text_hash, _how(visit), now_us)
        if contract.state == "signed":
            return Done(contracts=[contract])
        contract = await _reaching(books, contract, until_us)
        return await agreeing.give(
            books,
            by,
            contract.id,
            permits,
            until_us=until_us,
            now_us=now_us,
            service_point_limit=grant.document.service_point_limit if grant and standing else False,
        )

    done = await visit.parts.desk.run(step)
    if done.changes:
        return visit.go(f"/portal/homes/{found.id}/receipts/{done.changes[0].id}", new="1")
    state = "waiting" if done.contracts else "same"
    return visit.go(f"/portal/homes/{found.id}/services/{offer.party}", done=state)


async def _reaching(books: AllBooks, contract: Contract, until_us: int) -> Contract:
    """A customer's later end date moves the end of a contract that this person's own yes made."""
    if until_us <= contract.ends_us:
        return contract
    longer = msgspec.structs.replace(contract, ends_us=until_us)
    await books.put_contracts([longer])
    return longer


def _how(visit: Visit) -> str:
    if visit.reach is not None and visit.who.role.is_staff:
        return f"on the phone, taken down by {visit.who.name}"
    return "on the web site"


def _until_us(visit: Visit, found: Home) -> int:
    """Return the end of the day that was chosen, in the home's time zone."""
    zone = ZoneInfo(found.point.timezone)
    try:
        day = datetime.fromisoformat(visit.field("until")).date()
    except ValueError:
        visit.wrong("until", "write the last day like 2027-01-31")
    at = datetime.combine(day + timedelta(days=1), time(), zone)
    until_us = int(at.timestamp()) * 1_000_000
    if until_us <= visit.now_us:
        visit.wrong("until", "choose a day from today on")
    if day.isoformat() > _day(visit, found, DAYS_MAX):
        visit.wrong("until", f"choose a day until {_day(visit, found, DAYS_MAX)}")
    return until_us


# ---- what the form of devices says ------------------------------------------------------------------------


def permits_of(visit: Visit, found: Home) -> list[DevicePermit]:
    """Return what was chosen; raise :class:`Refused` naming the field that is wrong."""
    permits = [
        _permit(visit, device, verbs)
        for device in found.devices
        if (verbs := visit.fields(f"verb:{device.id}"))
    ]
    if not permits:
        visit.wrong("devices", "Choose at least one thing that this service may do, or go back.")
    return permits


def _permit(visit: Visit, device: Device, verbs: list[str]) -> DevicePermit:
    return DevicePermit(
        device=device.id,
        device_class=device.device_class,
        operations=operations_of(device.device_class, verbs),
        bounds=_bounds(visit, device),
    )


def _bounds(visit: Visit, device: Device) -> Bounds:
    fahrenheit = visit.who.fahrenheit
    low = _celsius(_number(visit, device, "low", -100, 250), fahrenheit)
    high = _celsius(_number(visit, device, "high", -100, 250), fahrenheit)
    if low is not None and high is not None and low > high:
        visit.wrong(f"high:{device.id}", f"{device.name}: the highest is below the lowest")
    least = _number(visit, device, "least_w", 0, WATTS_MAX)
    most = _number(visit, device, "most_w", 0, WATTS_MAX)
    if least is not None and most is not None and least > most:
        visit.wrong(f"most_w:{device.id}", f"{device.name}: the highest power is below the lowest")
    times = _number(visit, device, "times", 1, 100)
    return Bounds(
        watts_min=least,
        watts_max=most,
        celsius_min=low,
        celsius_max=high,
        times_per_day=None if times is None else int(times),
        between=_between(visit, device),
        hours_max=_number(visit, device, "hours", 0.25, 24),
    )


def _celsius(degrees: float | None, fahrenheit: bool) -> float | None:
    if degrees is None or not fahrenheit:
        return degrees
    return round((degrees - 32) * 5 / 9, 2)


def _number(visit: Visit, device: Device, name: str, least: float, most: float) -> float | None:
    text = visit.field(f"{name}:{device.id}").replace(",", ".")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        shown = f"{_short(least)} to {_short(most)}"
        visit.wrong(f"{name}:{device.id}", f"{device.name}: write a number from {shown}")
    return value


def _between(visit: Visit, device: Device) -> tuple[int, int] | None:
    begin, end = visit.field(f"from:{device.id}"), visit.field(f"to:{device.id}")
    if not begin and not end:
        return None
    try:
        first, last = time.fromisoformat(begin), time.fromisoformat(end)
    except ValueError:
        visit.wrong(f"from:{device.id}", f"{device.name}: write both times like 18:30")
    if first == last:
        visit.wrong(f"from:{device.id}", f"{device.name}: the two times are the same")
    return first.hour * 60 + first.minute, last.hour * 60 + last.minute


def _again(visit: Visit, found: Home, offer: Offer, problem: Problem) -> Response:
    """Show step 2 as it was filled in, with what is wrong."""
    choices = []
    for device in found.devices:
        empty = _choice(device, offer, None, visit.who.fahrenheit)
        names = ("low", "high", "least_w", "most_w", "times", "hours", "from", "to")
        typed = {name: visit.form.get(f"{name}:{device.id}", [""])[0][:40] for name in names}
        chosen = [verb for verb in empty.verbs if verb in visit.fields(f"verb:{device.id}")]
        choices.append(msgspec.structs.replace(empty, chosen=chosen, fields=typed))
    return visit.render(
        "home/connect_which.html", 422, **_about(found, offer), choices=choices, problem=problem
    )


# ---- shared -------------------------------------------------------------------------------------------------


async def _offered(visit: Visit) -> tuple[Home, Offer]:
    found = await visit.home(visit.path("point"), "connecting a service")
    offer = found.offers.get(visit.path("party"))
    if offer is None or not offer.open or found.parties[offer.party].state != "active":
        raise Refused(Reason.NOT_FOUND)
    return found, offer


def _held(found: Home, party: str) -> Grant | None:
    grant = found.grant_of(party)
    return grant if grant is not None and grant.state == "live" else None


def _about(found: Home, offer: Offer) -> dict[str, object]:
    return {
        "home": found,
        "zone": found.point.timezone,
        "offer": offer,
        "name": found.service(offer.party),
        "held": _held(found, offer.party),
        "examples": EXAMPLES,
        "warm": WARM,
    }


PAGES = [
    Page("GET", "/homes/{point}/connect", Act.CHANGE_ACCESS, choose),
    Page("GET", "/homes/{point}/connect/{party}", Act.CHANGE_ACCESS, who),
    Page("GET", "/homes/{point}/connect/{party}/devices", Act.CHANGE_ACCESS, which),
    Page("POST", "/homes/{point}/connect/{party}/check", Act.CHANGE_ACCESS, check),
    Page("POST", "/homes/{point}/connect/{party}/allow", Act.CHANGE_ACCESS, allow),
]
