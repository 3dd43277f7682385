"""People, contracts, changes of access and notes, over every engine."""

import asyncio

import pytest
from msgspec.structs import replace

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules import contracts as rule
from doorward.ccs.rules.contracts import Contract, Offer
from doorward.ccs.rules.homes import AccessChange, HomeNote
from doorward.ccs.rules.people import Person, Role, Session, tried
from doorward.wire.reasons import Refused
from tests.engines.store.records import NOW
from tests.engines.store.rigs import Rig

PERSON = Person(id="maria", role=Role.CUSTOMER, name="Maria", login="maria@example.org", of="C-1")


def contract(id: str = "k-1", **more: object) -> Contract:
    made = Contract(
        id=id,
        party="volt",
        customer="C-1",
        service_point="sp-1",
        tier="gold",
        state="drafted",
        text="text",
        text_hash="hash",
        starts_us=NOW,
        ends_us=NOW + 1000,
        agreed_us=NOW,
    )
    return replace(made, **more)


def change(id: str, version: int, **more: object) -> AccessChange:
    made = AccessChange(
        id=id,
        kind="granted",
        party="volt",
        service_point="sp-1",
        grant=f"g-{id}",
        version=1,
        at_us=NOW,
        asked_us=NOW,
        by="maria",
        words=["a", "b"],
        gateway="gw-1",
        gateway_version=version,
    )
    return replace(made, **more)


async def test_people_and_their_sessions_are_kept_and_end(home: Rig) -> None:
    async def put(books: AllBooks) -> None:
        await books.put_people([PERSON])
        await books.put_sessions(
            [
                Session(id="s1", person="maria", created_us=NOW, until_us=NOW + 10),
                Session(id="s2", person="maria", created_us=NOW, until_us=NOW + 99),
            ]
        )

    await home.store.write(put)
    read = home.store.read
    assert await home.store.write(lambda books: books.person_by_login("maria@example.org")) == PERSON
    assert await read(lambda books: books.people_of(["C-1"])) == [PERSON]
    assert await read(lambda books: books.signed_in("s1", NOW + 9)) == PERSON
    assert await read(lambda books: books.signed_in("s1", NOW + 10)) is None
    await home.store.write(lambda books: books.end_sessions("maria"))
    assert await read(lambda books: books.signed_in("s2", NOW)) is None


async def test_of_wrong_passwords_at_once_each_counts(home: Rig) -> None:
    await home.store.write(lambda books: books.put_people([PERSON]))

    async def wrong(books: AllBooks) -> None:
        person = await books.person_by_login("maria@example.org")
        assert person is not None
        await books.put_people([tried(person, False, NOW)])

    await asyncio.gather(*(home.store.write(wrong) for _ in range(4)))
    (person,) = (await home.store.read(lambda books: books.people(["maria"]))).values()
    assert person.failed == 4


async def test_of_two_who_approve_one_contract_the_later_is_told(home: Rig) -> None:
    await home.store.write(lambda books: books.put_contracts([contract(state="signed", signed_us=NOW)]))

    async def approve(books: AllBooks, by: str) -> str:
        found = (await books.contracts(["k-1"], lock=True))["k-1"]
        await books.put_contracts([rule.approve(found, by, NOW)])
        return by

    both = await asyncio.gather(
        *(home.store.write(lambda books, by=by: approve(books, by)) for by in ("rosa", "omar")),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in both) == ["Refused", "str"]
    assert isinstance(next(each for each in both if not isinstance(each, str)), Refused)


async def test_a_pair_has_one_open_contract_and_closed_ones_stay(home: Rig) -> None:
    await home.store.write(
        lambda books: books.put_contracts([contract("k-1", state="ended"), contract("k-2")])
    )
    assert len(await home.store.read(lambda books: books.contracts_at(["sp-1"]))) == 2
    with pytest.raises(Exception, match=r"(?i)unique"):
        await home.store.write(lambda books: books.put_contracts([contract("k-3")]))


async def test_offers_are_kept_with_what_they_ask_for(home: Rig) -> None:
    offer = Offer(party="volt", tier="gold", wants={"thermostat": ["read", "setpoint"]})
    await home.store.write(lambda books: books.put_offers([offer]))
    assert await home.store.read(lambda books: books.offers()) == [offer]
    assert await home.store.read(lambda books: books.offers(["nobody"])) == []


async def test_a_gateway_s_receipt_reaches_the_changes_up_to_its_version_and_failures_stay(home: Rig) -> None:
    made = [change("1", 5), change("2", 6), change("3", 7), change("4", 5, gateway="gw-2")]
    await home.store.write(lambda books: books.put_changes(made))
    await home.store.write(lambda books: books.applied({"gw-1": 6}, NOW + 3, {"gw-1": {"g-2": "why"}}))
    held = await home.store.read(lambda books: books.changes(["1", "2", "3", "4"]))
    assert {id: (each.applied_us, each.failed) for id, each in held.items()} == {
        "1": (NOW + 3, ""),
        "2": (0, "why"),
        "3": (0, ""),
        "4": (0, ""),
    }
    assert held["1"].words == ["a", "b"]
    assert await home.store.read(lambda books: books.changed_by_people("file")) == {
        f"g-{at}": NOW for at in range(1, 5)
    }


async def test_what_happened_is_read_newest_first_between_two_ids(home: Rig) -> None:
    notes = [HomeNote(id=str(at), service_point="sp-1", kind="look", at_us=NOW, words="w") for at in range(6)]
    await home.store.write(lambda books: books.put_notes([*notes, notes[0]]))  # twice is once
    found = await home.store.read(lambda books: books.notes_at("sp-1", since="1", before="5", limit=2))
    assert [each.id for each in found] == ["4", "3"]
    assert await home.store.read(lambda books: books.notes_at("elsewhere")) == []
