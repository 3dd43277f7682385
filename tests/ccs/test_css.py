"""The customer service system: flags, moving, service, gateways and access, as the books and the gateway see it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from doorward.ccs.access_desk import AccessDesk
from doorward.ccs.agreeing import Agreeing, By
from doorward.ccs.css import CustomerService
from doorward.ccs.engines.consent import LocalConsentAuthority
from doorward.ccs.engines.sqlite import SqliteStore
from doorward.ccs.homes import load_home, occupant_of, points_of, story
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.contracts import Offer
from doorward.ccs.rules.facts import Party
from doorward.ccs.rules.identity import Claims, TokenReader, write_token
from doorward.ccs.rules.people import Person, Role
from doorward.ccs.views import View
from doorward.kit.ids import uuid7
from doorward.wire.messages import Cancel, Provision, Withdraw
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import public_jwk
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import Operation
from tests.ccs.town import HOUR, LIMIT, READ, SECOND, HandClock, Town, settle

AUDIENCE = "https://ccs/utility/v1"
YEAR = 365 * 24 * HOUR


class Office:
    """A customer service system in front of a town: Maria (C-1, account A-1) lives at SP-1."""

    def __init__(self, town: Town, directory: Path) -> None:
        self.town = town
        agreeing = Agreeing(LocalConsentAuthority(directory), town.rng, "the utility", by_rule=True)
        self.desk = AccessDesk(town.journey, agreeing)
        tokens = TokenReader({"k": public_jwk(town.signer.public_key())}, "https://ccs", AUDIENCE, "system")
        self.css = CustomerService(town.journey, self.desk, tokens)
        self.count = self.settled = 0

    async def build(self) -> None:
        await self.town.store.write(self._parties)
        await self.says("account.changed", account="A-1", customer="C-1", name="Maria Lopez")
        await self.says("occupancy.began", account="A-1", service_point="SP-1")
        await self.contract("bright")
        await self.town.store.write(lambda books: books.put_grants([self.town.grant("bright", 2)]))
        self.town.gateway.heard()
        self.town.clock.pass_s(120)
        await self.town.upkeep.partitions()
        await self.town.store.write(lambda books: books.applied({"SPG-1": 99}, self.town.clock.now_us()))
        await self.css.settle()
        self.settled = len(await self.feed())

    async def _parties(self, books: AllBooks) -> None:
        await books.put_parties([Party(id="css", name="Customer service", kind="system", scopes=["css"])])
        await books.put_offers([Offer(party=each, tier="gold", agreed_us=1) for each in ("bright", "sun")])

    async def contract(self, party: str) -> None:
        now_us = self.town.clock.now_us()
        by, agreeing = By(person="maria", asked_us=now_us), self.desk.agreeing

        async def step(books: AllBooks) -> None:
            drafted = await agreeing.draft(
                books,
                by,
                party=party,
                customer="C-1",
                service_point="SP-1",
                ends_us=now_us + YEAR,
                now_us=now_us,
            )
            await agreeing.sign(books, by, drafted.id, drafted.text_hash, "on paper", now_us)

        await self.town.store.write(step)

    def token(self, party: str = "css", scope: str = "css", aud: str = AUDIENCE) -> str:
        now_us = self.town.clock.now_us()
        claims = Claims(
            iss="https://ccs",
            aud=aud,
            sub=party,
            client_id=party,
            exp=now_us // SECOND + 600,
            iat=now_us // SECOND,
            jti=uuid7(now_us, self.town.rng),
            scope=scope,
        )
        return write_token(claims, self.town.signer, "k")

    def item(self, kind: str, **more: Any) -> dict[str, Any]:
        self.count += 1
        at = to_rfc3339(self.town.clock.now_us())
        return {"id": f"e-{self.count}", "kind": kind, "at": at, "sequence": self.count, **more}

    async def send(self, *items: dict[str, Any]) -> list[View]:
        return await self.css.take(self.token(), [msgspec.Raw(msgspec.json.encode(item)) for item in items])

    async def says(self, kind: str, **more: Any) -> dict[str, Any]:
        (view,) = await self.send(self.item(kind, **more))
        return dict(view)

    async def applied(self, kind: str, **more: Any) -> dict[str, Any]:
        view = await self.says(kind, **more)
        assert view["outcome"] == "applied", view
        return view

    async def feed(self) -> list[dict[str, Any]]:
        events = await self.town.store.read(lambda books: books.feed("", "", [], 100))
        told = [msgspec.json.decode(each.data) for each in events if each.kind.startswith("css.")]
        return told[self.settled :]

    async def service(self) -> str:
        return (await self.town.store.read(lambda books: books.service_points(["SP-1"])))["SP-1"].service


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    clock = HandClock()
    store = SqliteStore(tmp_path / "ccs.db", clock=clock)
    town = Town(store, clock)
    await town.build()
    built = Office(town, tmp_path / "consent")
    await built.build()
    yield built
    await store.close()


# ---- flags -----------------------------------------------------------------------------------------------


async def test_a_flagged_customer_is_read_and_not_controlled_until_the_flag_is_off(office: Office) -> None:
    town = office.town
    await office.applied("customer.flagged", customer="C-1", flag="life-support")
    assert (await town.declined(LIMIT)).refusal.reason is Reason.CUSTOMER_PROTECTED
    request = await town.accepted(READ)
    await town.gateway.answer(request.id, {"power_w": 5})
    assert (await town.journey.fetch(town.token(), request.id)).answer == "DELIVERED"

    await office.applied("customer.flagged", customer="C-1", flag="medical-baseline")
    await office.applied("customer.unflagged", customer="C-1", flag="life-support")
    assert (await town.declined(LIMIT)).refusal.reason is Reason.CUSTOMER_PROTECTED
    await office.applied("customer.unflagged", customer="C-1", flag="medical-baseline")
    assert await town.accepted(LIMIT)


async def test_a_flag_lets_go_of_the_control_that_runs_and_cancels_the_one_that_waits(office: Office) -> None:
    town = office.town
    running = await town.accepted(LIMIT)
    await town.gateway.answer(running.id, {"watts": 2000})
    assert (await town.request(running.id)).state == "DONE"
    later = {**LIMIT, "start": to_rfc3339(town.clock.now_us() + HOUR // 4)}
    read = await town.accepted(READ)
    await town.gateway.disconnect()
    waiting = await town.accepted(later)
    town.gateway.heard()
    await town.gateway.connect()
    town.gateway.heard()

    await office.applied("customer.flagged", customer="C-1", flag="medical-baseline")
    await settle(town.journey)
    asked = [each.id for each in town.gateway.heard() if isinstance(each, Cancel)]
    assert running.id in asked
    assert (await town.request(waiting.id)).cancel_asked
    assert not (await town.request(read.id)).cancel_asked


async def test_what_was_accepted_in_the_very_moment_of_a_flag_is_let_go_when_it_is_looked_at_again(
    office: Office,
) -> None:
    town = office.town
    await office.applied("customer.flagged", customer="C-1", flag="life-support")
    await town.store.write(lambda books: books.put_protected({"SP-1": []}))
    slipped = await town.accepted(LIMIT)
    await town.store.write(lambda books: books.put_protected({"SP-1": ["life-support"]}))
    await office.css.settle()
    assert not (await town.request(slipped.id)).cancel_asked
    town.clock.pass_s(6)
    await office.css.settle()
    assert (await town.request(slipped.id)).cancel_asked


async def test_a_flagged_customer_takes_the_flag_along(office: Office) -> None:
    await office.applied("customer.flagged", customer="C-1", flag="life-support")
    await office.applied("account.changed", account="A-2", customer="C-2", name="Nobody special")
    await office.applied("occupancy.began", account="A-2", service_point="SP-1")
    assert await office.town.store.read(lambda books: books.protected(["SP-1"])) == {}
    await office.applied("occupancy.began", account="A-1", service_point="SP-1")
    kept = await office.town.store.read(lambda books: books.protected(["SP-1"]))
    assert kept == {"SP-1": ["life-support"]}


# ---- order and repetition --------------------------------------------------------------------------------


async def test_an_event_is_taken_once_and_another_under_its_id_is_refused(office: Office) -> None:
    off = office.item("service.off", service_point="SP-1")
    (first,) = await office.send(off)
    await office.applied("service.on", service_point="SP-1")
    (again,) = await office.send(off)
    assert (again["outcome"], again["number"]) == ("applied", first["number"])
    assert await office.service() == "on"
    (other,) = await office.send({**off, "why": "another body"})
    assert other["reason"] == "idempotency-conflict"
    assert (await office.css.find(office.token(), off["id"]))["outcome"] == "applied"


async def test_a_late_event_does_not_undo_a_newer_one_and_hides_none_about_something_else(
    office: Office,
) -> None:
    early = office.item("service.off", service_point="SP-1")
    flag = office.item("customer.flagged", customer="C-1", flag="life-support")
    office.town.clock.pass_s(10)
    await office.applied("service.on", service_point="SP-1")
    late, other = await office.send(early, flag)
    assert (late["outcome"], other["outcome"]) == ("superseded", "applied")
    assert await office.service() == "on"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "?"}, "/id"),
        ({"at": "yesterday"}, "/at"),
        ({"at": "2999-01-01T00:00:00Z"}, "/at"),
        ({"service_point": ""}, "/service_point"),
        ({"sequence": -1}, "/sequence"),
        ({"why": "a\nb"}, "/why"),
    ],
)
async def test_a_bad_item_is_answered_for_itself(office: Office, change: dict[str, Any], field: str) -> None:
    bad = {**office.item("service.off", service_point="SP-1"), **change}
    unknown = office.item("no.such.kind")
    good = office.item("service.on", service_point="SP-1")
    answers = await office.send(bad, unknown, good)
    assert [each["outcome"] for each in answers] == ["refused", "refused", "applied"]
    assert answers[0]["field"] == field


async def test_a_refused_event_is_on_record_and_may_come_again(office: Office) -> None:
    item = office.item("occupancy.began", account="A-7", service_point="SP-1")
    (refused,) = await office.send(item)
    assert refused["field"] == "/account"
    assert "not-found" in str((await office.css.find(office.token(), item["id"]))["detail"])
    await office.applied("account.changed", account="A-7", customer="C-7")
    (taken,) = await office.send(item)
    assert taken["outcome"] == "applied"


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ({"scope": "requests.read"}, Reason.SCOPE_MISSING),
        ({"aud": "https://ccs"}, Reason.NOT_AUTHENTICATED),
        ({"party": "bright"}, Reason.NOT_AUTHENTICATED),
    ],
)
async def test_only_the_customer_service_system_comes_in(
    office: Office, shown: dict[str, str], reason: Reason
) -> None:
    item = msgspec.Raw(msgspec.json.encode(office.item("service.off", service_point="SP-1")))
    with pytest.raises(Refused) as caught:
        await office.css.take(office.token(**shown), [item])
    assert caught.value.reason is reason
    assert await office.service() == "on"


# ---- service, moving, gateways ----------------------------------------------------------------------------


async def test_service_off_ends_contracts_refuses_at_once_and_is_confirmed_by_the_gateway(
    office: Office,
) -> None:
    town = office.town
    await town.gateway.disconnect()
    waiting = await town.accepted(READ)
    view = await office.applied("service.off", service_point="SP-1")
    assert view["state"] == "waiting"
    assert (await town.declined(READ)).refusal.reason is Reason.SERVICE_OFF
    assert (await town.request(waiting.id)).state == "CANCELLED"
    contracts = await town.store.read(lambda books: books.contracts_at(["SP-1"]))
    assert {each.state for each in contracts} == {"ended"}
    told = await town.store.read(lambda books: books.feed("bright", "", [], 100))
    assert {"contract.ended", "access.withdrawn"} <= {each.kind for each in told}

    await office.css.settle()
    assert await office.feed() == []
    version = view["receipts"][0]["gateway_version"]
    await town.store.write(lambda books: books.applied({"SPG-1": 100 + version}, town.clock.now_us()))
    await office.css.settle()
    found = await office.css.find(office.token(), view["id"])
    assert (found["state"], found["receipts"][0]["gateway_version"]) == ("done", version)
    assert [each["id"] for each in await office.feed()] == [view["id"]]
    await office.css.settle()
    assert len(await office.feed()) == 1


async def test_who_moves_in_gets_nothing_of_who_moved_out_not_even_what_happened_in_that_millisecond(
    office: Office,
) -> None:
    town = office.town
    await town.accepted(READ)
    await office.applied("account.changed", account="A-2", customer="C-2", name="New")
    await office.applied("occupancy.began", account="A-2", service_point="SP-1")
    town.clock.pass_s(0.002)
    now_us = town.clock.now_us()
    new, old = (
        Person(id=each, role=Role.CUSTOMER, name=each, login=each, of=each) for each in ("C-2", "C-1")
    )

    async def look(books: AllBooks) -> tuple[object, ...]:
        occupant, since_us = await occupant_of(books, "SP-1", now_us)
        home = await load_home(books, "SP-1", occupant, since_us, now_us)
        assert home is not None
        seen = await story(books, home, limit=100)
        return (
            occupant,
            home.grants,
            home.contracts,
            seen,
            list(await points_of(books, new, now_us)),
            (await points_of(books, old, now_us)),
        )

    assert await town.store.read(look) == ("C-2", [], [], [], ["SP-1"], {})
    assert (await town.declined(READ)).refusal.reason is Reason.ACCESS_DISABLED


async def test_moving_out_ends_the_rights_there_and_one_who_does_not_live_there_is_not_moved(
    office: Office,
) -> None:
    await office.applied("account.changed", account="A-2", customer="C-2")
    wrong = await office.says("occupancy.ended", account="A-2", service_point="SP-1")
    assert (wrong["reason"], wrong["field"]) == ("not-found", "/account")
    assert await office.town.accepted(READ)
    await office.applied("occupancy.ended", account="A-1", service_point="SP-1")
    assert (await office.town.declined(READ)).refusal.reason is Reason.ACCESS_DISABLED


async def test_an_exchanged_gateway_is_out_and_the_new_one_is_to_hold_everything(office: Office) -> None:
    town = office.town
    await office.applied("gateway.exchanged", service_point="SP-1", gateway="SPG-2")

    async def look(books: AllBooks) -> tuple[object, ...]:
        gateways = await books.gateways(["SPG-1", "SPG-2"])
        held = await books.provisioned(["SPG-1", "SPG-2"])
        return (
            {id: each.state for id, each in gateways.items()},
            held["SPG-1"].service_points,
            held["SPG-2"].service_points,
            [grant.id for grant in held["SPG-2"].grants if grant.state == "live"],
            (await books.places(["SP-1"], town.clock.now_us()))["SP-1"].gateway,
        )

    assert await town.store.read(look) == (
        {"SPG-1": "revoked", "SPG-2": "expected"},
        [],
        ["SP-1"],
        ["G-bright"],
        "SPG-2",
    )
    back = await office.says("gateway.exchanged", service_point="SP-1", gateway="SPG-1")
    assert back["reason"] == "too-late"


# ---- commands --------------------------------------------------------------------------------------------


def enabling(**more: Any) -> dict[str, Any]:
    devices = [{"device": "TH-1", "operations": ["read", "setpoint"], "bounds": {"celsius_min": 18}}]
    return {"customer": "C-1", "service_point": "SP-1", "third_party": "sun", "devices": devices, **more}


async def test_access_is_enabled_modified_and_disabled_under_a_contract_only(office: Office) -> None:
    town = office.town
    assert (await office.says("access.enable", **enabling()))["reason"] == "contract-missing"
    await office.contract("sun")
    given = await office.applied("access.enable", **enabling())
    assert [(each["third_party"], each["version"]) for each in given["receipts"]] == [("sun", 1)]
    assert (await office.says("access.enable", **enabling()))["reason"] == "too-late"
    changed = await office.applied(
        "access.modify", **enabling(devices=[{"device": "TH-1", "operations": ["read"]}])
    )
    assert changed["receipts"][0]["version"] == 2
    grant = (await town.store.read(lambda books: books.grants([("sun", "SP-1")])))["sun", "SP-1"]
    assert [permit.operations for permit in grant.document.devices] == [[Operation.READ]]
    await settle(town.journey)
    heard = [each for each in town.gateway.heard() if isinstance(each, Provision)]
    assert grant.id in heard[-1].grants

    await office.applied("access.disable", service_point="SP-1", third_party="sun")
    await settle(town.journey)
    assert any(isinstance(each, Withdraw) and each.grant == grant.id for each in town.gateway.heard())
    gone = await office.says("access.modify", **enabling())
    assert gone["reason"] == "not-found"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"customer": "C-9"}, "not-found"),
        ({"devices": [{"device": "OTHER", "operations": ["read"]}]}, "device-unknown"),
        ({"devices": [{"device": "TH-1", "operations": ["limit"]}]}, "operation-not-permitted"),
        ({"third_party": "nobody"}, "contract-missing"),
        ({"service_point": "SP-7"}, "not-found"),
    ],
)
async def test_a_command_that_does_not_fit_changes_nothing(
    office: Office, change: dict[str, Any], reason: str
) -> None:
    await office.contract("sun")
    assert (await office.says("access.enable", **enabling(**change)))["reason"] == reason
    assert await office.town.store.read(lambda books: books.grants([("sun", "SP-1")])) == {}


async def test_a_test_is_run_where_there_are_tests_and_else_said_to_be_missing(office: Office) -> None:
    assert (await office.says("test.run", service_point="SP-1"))["reason"] == "not-found"
    ran = []

    async def run(service_point: str, by: str) -> str:
        ran.append((service_point, by))
        return "test-1"

    office.css.run_test = run
    view = await office.applied("test.run", service_point="SP-1")
    assert (view["detail"], ran) == ("test-1", [("SP-1", "css")])


async def test_what_the_system_said_stands_in_the_homes_own_activity(office: Office) -> None:
    await office.applied("customer.flagged", customer="C-1", flag="medical-baseline", why="doctor's letter")
    notes = await office.town.store.read(lambda books: books.notes_at("SP-1"))
    assert "medical baseline" in notes[0].words
    assert (notes[0].by, notes[0].why) == ("css", "doctor's letter")


async def test_what_cannot_be_read_is_on_record_too(office: Office) -> None:
    unread, future = await office.send(
        {"id": 7}, {**office.item("service.off", service_point="SP-1"), "at": "2999-01-01T00:00:00Z"}
    )
    for view in (unread, future):
        found = await office.css.find(office.token(), view["id"])
        assert (found["outcome"], "body-malformed" in str(found["detail"])) == ("refused", True)
    assert str(unread["id"]).startswith("unreadable-")
    again = office.item("service.off", service_point="SP-1")
    assert (await office.send({**again, "id": future["id"]}))[0]["outcome"] == "applied", (
        "sent right, it is taken"
    )
