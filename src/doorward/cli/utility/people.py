"""People who sign in, and what third parties offer to customers."""

from datetime import UTC, date, datetime, time

from doorward.ccs.rules.contracts import Offer
from doorward.ccs.rules.people import Person, Role
from doorward.ccs.rules.wording import Verb, operations_of
from doorward.cli.toml_places import Path as Place
from doorward.cli.utility.mistakes import Refs, row_of
from doorward.cli.utility.tables import OfferTable, PartyTable, PersonTable

_TABLE_OF = {Role.CUSTOMER: "customer", Role.DEVELOPER: "party"}
"""Role → the table in which whom they act for stands."""


def people_of(refs: Refs) -> list[Person]:
    """Return the people; sign-in names are unique, whatever their letters' case."""
    people = []
    first: dict[str, Place] = {}
    for place, row in refs.rows["person"]:
        login = (row.login or row.email or row.id).casefold()
        if login in first:
            line = refs.places.line(first[login])
            refs.wrong((*place, "login"), f"{login!r} signs somebody in already, at line {line}")
        first.setdefault(login, place)
        _whom(refs, place, row)
        people.append(
            Person(
                id=row.id,
                role=row.role,
                name=row.name,
                login=login,
                of=row.of,
                email=row.email,
                state=row.state,
                fahrenheit=row.fahrenheit,
            )
        )
    return people


def _whom(refs: Refs, place: Place, row: PersonTable) -> None:
    table = _TABLE_OF.get(row.role)
    if table is not None:
        refs.must_be((*place, "of"), table, row.of)
    elif row.of and row.role is not Role.VENDOR:
        refs.wrong((*place, "of"), f"somebody who is {row.role} acts for the utility, not for {row.of!r}")


def offers_of(refs: Refs) -> list[Offer]:
    """Return what third parties offer; one that offers nothing cannot be chosen by customers."""
    offers = []
    for place, party in refs.rows["party"]:
        if not party.offer:
            continue
        where = (*place, "offer")
        row = row_of(refs, where, OfferTable, party.offer)
        if row is not None and refs.must_be((*where, "tier"), "tier", row.tier):
            offers.append(_offer(refs, where, party, row))
    return offers


def _offer(refs: Refs, place: Place, party: PartyTable, row: OfferTable) -> Offer:
    for device_class, verbs in row.wants.items():
        for verb in verbs:
            if verb not in set(Verb):
                refs.wrong((*place, "wants", device_class), f"{verb!r} is none of {', '.join(Verb)}")
    verified = row.verified
    if verified is not None and (not isinstance(verified, date) or isinstance(verified, datetime)):
        refs.wrong((*place, "verified"), "is not a day; write 2026-03-01 (without quotes)")
        verified = None
    day = datetime.combine(verified, time(), UTC) if verified else None
    return Offer(
        party=party.id,
        legal_name=row.legal_name or party.name,
        purpose=row.purpose,
        website=row.website,
        tier=row.tier,
        wants={
            str(each): [str(op) for op in operations_of(each, verbs)] for each, verbs in row.wants.items()
        },
        verified_us=int(day.timestamp()) * 1_000_000 if day else 0,
        agreed_by="file",
        open=row.open,
    )
