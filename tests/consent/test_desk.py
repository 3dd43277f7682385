"""The consent authority: on what it says yes, what it renews, and that a no is always believed."""

import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from doorward.cli.evidence import evidence
from doorward.client.keys import SigningKey
from doorward.consent.desk import PROPOSALS_PER_HOUR_MAX, ConsentDesk
from doorward.consent.keys import AuthorityKey
from doorward.consent.outbox import Letter
from doorward.consent.register import Register
from doorward.consent.rules import CODE_TRIES_MAX, Contact, PartyRecord
from doorward.wire.grants import (
    LEASE_US_MAX,
    Bounds,
    DevicePermit,
    GrantDocument,
    LeaseDocument,
    TrustDocument,
    lease_until_us,
)
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import payload_of, public_jwk, verify
from doorward.wire.vocabulary import DeviceClass, Operation

US = 1_000_000
DAY_US = 24 * 3600 * US
OPERATOR = SigningKey(Ed25519PrivateKey.from_private_bytes(b"o" * 32), "anna")
STRANGER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"s" * 32), "anna")
PARTY_KEYS = {"k1": public_jwk(Ed25519PrivateKey.from_private_bytes(b"p" * 32).public_key())}


class Hands:
    """A clock that is set, and an outbox that keeps letters."""

    def __init__(self) -> None:
        self.at_us = 1_800_000_000 * US
        self.letters: list[Letter] = []

    def now_us(self) -> int:
        return self.at_us

    async def send(self, letter: Letter) -> None:
        self.letters.append(letter)


class Office:
    """The authority with everything around it."""

    def __init__(self, place: Path) -> None:
        self.hands = Hands()
        self.key = AuthorityKey(place)
        self.register = Register(place)
        operators = {"anna": public_jwk(OPERATOR.key.public_key())}
        self.desk = ConsentDesk(
            self.register, self.key, self.hands, lambda: operators, self.hands, random.Random(1), "https://c"
        )

    def document(self, **changes: Any) -> GrantDocument:
        fields: dict[str, Any] = {
            "grant": "g-1",
            "version": 1,
            "party": "acme",
            "service_point": "sp-1",
            "purpose": "savings",
            "devices": [permit("ev", Operation.READ, Operation.LIMIT, watts_min=1400.0)],
            "not_before_us": self.hands.at_us,
            "expires_us": self.hands.at_us + 300 * DAY_US,
            "issued_us": self.hands.at_us,
            "party_keys": PARTY_KEYS,
            "signature_required": True,
        }
        return GrantDocument(**(fields | changes))

    def evidence(self, raw: bytes, kind: str = "grant", by: SigningKey = OPERATOR) -> str:
        return evidence(kind, raw, by, self.hands.at_us)

    async def give(self, **changes: Any) -> GrantDocument:
        document = self.document(**changes)
        raw = msgspec.json.encode(document)
        await self.desk.sign(raw, self.evidence(raw))
        return document

    async def know(self) -> None:
        """The register gets a company and a customer's address, on an operator's evidence."""
        party = msgspec.json.encode(PartyRecord(id="acme", name="Acme Energy", keys=PARTY_KEYS))
        await self.desk.put_party(party, self.evidence(party, "party"))
        contact = msgspec.json.encode(Contact(service_point="sp-1", email="maria@home.example"))
        await self.desk.put_contact(contact, self.evidence(contact, "contact"))

    async def log(self) -> list[str]:
        return [row[1] for row in await self.register.read(lambda books: books.logged())]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    made = Office(tmp_path)
    yield made
    await made.register.close()


def permit(name: str, *operations: Operation, **bounds: Any) -> DevicePermit:
    kind = DeviceClass.EV_CHARGER
    return DevicePermit(device=name, device_class=kind, operations=list(operations), bounds=Bounds(**bounds))


async def sign(office: Office, document: GrantDocument, given: str = "") -> Any:
    return await office.desk.sign(msgspec.json.encode(document), given)


async def refused(office: Office, document: GrantDocument, given: str, reason: Reason) -> None:
    with pytest.raises(Refused) as no:
        await sign(office, document, given)
    assert no.value.reason is reason
    assert (await office.log())[-1] == "refused"


# --- an operator's evidence ----------------------------------------------------------------------------


async def test_it_signs_on_an_operators_evidence_over_the_very_document(office: Office) -> None:
    document = office.document()
    raw = msgspec.json.encode(document)
    given = await office.desk.sign(raw, office.evidence(raw))
    assert verify(given.document, office.key.public_keys(), "grant") == raw
    lease = msgspec.json.decode(verify(given.lease, office.key.public_keys(), "lease"), type=LeaseDocument)
    assert (lease.grant, lease.version) == ("g-1", 1)
    assert 0 < lease.until_us - office.hands.at_us <= LEASE_US_MAX


async def test_without_evidence_it_signs_nothing_new(office: Office) -> None:
    document = office.document()
    raw = msgspec.json.encode(document)
    await refused(office, document, "", Reason.SIGNATURE_INVALID)
    await refused(office, document, office.evidence(raw, by=STRANGER), Reason.SIGNATURE_INVALID)
    await refused(office, document, office.evidence(b"another"), Reason.SIGNATURE_INVALID)
    await refused(office, document, office.evidence(raw, "party"), Reason.SIGNATURE_INVALID)
    await refused(office, document, "not.a.jws", Reason.SIGNATURE_INVALID)


async def test_evidence_is_of_now(office: Office) -> None:
    raw = msgspec.json.encode(office.document())
    for off_us in (-16 * 60 * US, 16 * 60 * US):
        with pytest.raises(Refused, match="not of now"):
            await office.desk.sign(raw, evidence("grant", raw, OPERATOR, office.hands.at_us + off_us))


@pytest.mark.parametrize(
    "change",
    [
        {"devices": [permit("ev", Operation.READ, Operation.LIMIT, Operation.TURN_OFF, watts_min=1400.0)]},
        {"devices": [permit("ev", Operation.READ, Operation.LIMIT)]},
        {"devices": [permit("ev", Operation.READ, Operation.LIMIT, watts_min=1000.0)]},
        {"devices": [permit("ev", Operation.READ), permit("pump", Operation.READ)]},
        {"devices": [replace(permit("ev", Operation.READ, watts_min=1400.0), bound_to="elsewhere")]},
        {"expires_us": 2_000_000_000 * US},
        {"party_keys": {"k1": public_jwk(STRANGER.key.public_key())}},
        {"party_keys": PARTY_KEYS | {"evil": public_jwk(STRANGER.key.public_key())}},
        {"signature_required": False},
        {"service_point_limit": True},
        {"purpose": "marketing"},
        {"tier_hour": 1000},
        {"utility": True},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_whatever_widens_needs_evidence(office: Office, change: dict[str, Any]) -> None:
    await office.give()
    await refused(office, office.document(version=2, **change), "", Reason.SIGNATURE_INVALID)


@pytest.mark.parametrize(
    "change",
    [
        {"devices": [permit("ev", Operation.READ, watts_min=1400.0)]},
        {"devices": [permit("ev", Operation.READ, Operation.LIMIT, watts_min=2000.0, watts_max=5000.0)]},
        {"devices": []},
        {"party_keys": {}},
        {"expires_us": 1_800_000_000 * US + DAY_US},
        {"paused_until_us": 1_800_000_000 * US + DAY_US},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_only_narrows_needs_none_and_what_takes_it_back_does(
    office: Office, change: dict[str, Any]
) -> None:
    await office.give()
    assert (await sign(office, office.document(version=2, **change))).document
    await refused(office, office.document(version=3), "", Reason.SIGNATURE_INVALID)


async def test_a_version_is_signed_once_and_the_same_again_is_the_same(office: Office) -> None:
    document = await office.give()
    first = (await sign(office, document)).document
    office.hands.at_us += 60 * US
    assert (await sign(office, replace(document, issued_us=office.hands.at_us))).document == first
    narrower = replace(document, devices=[], issued_us=office.hands.at_us)
    await refused(office, narrower, office.evidence(msgspec.json.encode(narrower)), Reason.REPLAYED)


async def test_controls_must_be_signed_unless_the_register_says_that_a_company_need_not(
    office: Office,
) -> None:
    unsigned = office.document(signature_required=False)
    raw = msgspec.json.encode(unsigned)
    await refused(office, unsigned, office.evidence(raw), Reason.SIGNATURE_INVALID)
    reading = office.document(signature_required=False, devices=[permit("ev", Operation.READ)])
    assert await sign(office, reading, office.evidence(msgspec.json.encode(reading)))
    sandbox = msgspec.json.encode(PartyRecord(id="acme", name="Acme", signature_required=False))
    await office.desk.put_party(sandbox, office.evidence(sandbox, "party"))
    other = office.document(grant="g-2", signature_required=False)
    assert await sign(office, other, office.evidence(msgspec.json.encode(other)))


# --- the customer's own code ---------------------------------------------------------------------------


def code_in(letter: Letter) -> str:
    found = re.search(r"code (\d{8})", letter.text)
    assert found
    return found.group(1)


async def test_the_customer_says_yes_with_the_code_that_only_the_authoritys_letter_has(
    office: Office,
) -> None:
    await office.know()
    asked = office.document(
        party_keys={"evil": public_jwk(STRANGER.key.public_key())}, signature_required=False
    )
    proposed = await office.desk.propose(msgspec.json.encode(asked))
    [letter] = office.hands.letters
    assert letter.to == "maria@home.example"
    assert "Acme Energy" in letter.text
    assert "ev: read, limit (watts min 1400.0)" in letter.text
    assert proposed.sent_to == "m…@home.example"
    given = await office.desk.confirm(proposed.proposal, code_in(letter))
    signed = msgspec.json.decode(payload_of(given.document), type=GrantDocument)
    assert signed.party_keys == PARTY_KEYS, "the register's keys, not those that somebody asked with"
    assert signed.signature_required
    with pytest.raises(Refused):
        await office.desk.confirm(proposed.proposal, code_in(letter))


async def test_a_guessed_code_does_not_help_and_guessing_ends(office: Office) -> None:
    await office.know()
    proposed = await office.desk.propose(msgspec.json.encode(office.document()))
    right = code_in(office.hands.letters[0])
    wrong = f"{(int(right) + 1) % 10**8:08}"
    for _ in range(CODE_TRIES_MAX):
        with pytest.raises(Refused) as no:
            await office.desk.confirm(proposed.proposal, wrong)
        assert no.value.reason is Reason.SIGNATURE_INVALID
    with pytest.raises(Refused) as over:
        await office.desk.confirm(proposed.proposal, right)
    assert over.value.reason is Reason.NOT_FOUND


async def test_a_code_is_good_for_a_quarter_of_an_hour_and_a_home_is_not_worn_down(office: Office) -> None:
    await office.know()
    proposed = await office.desk.propose(msgspec.json.encode(office.document()))
    office.hands.at_us += 15 * 60 * US
    with pytest.raises(Refused):
        await office.desk.confirm(proposed.proposal, code_in(office.hands.letters[0]))
    for _ in range(PROPOSALS_PER_HOUR_MAX - 1):
        await office.desk.propose(msgspec.json.encode(office.document()))
    with pytest.raises(Refused) as no:
        await office.desk.propose(msgspec.json.encode(office.document()))
    assert no.value.reason is Reason.RATE_LIMITED


async def test_who_is_not_in_the_register_is_not_asked_about_or_written_to(office: Office) -> None:
    with pytest.raises(Refused) as no:
        await office.desk.propose(msgspec.json.encode(office.document()))
    assert no.value.reason is Reason.NOT_FOUND
    contact = msgspec.json.encode(Contact(service_point="sp-1", email="evil@ccs.example"))
    with pytest.raises(Refused):
        await office.desk.put_contact(contact, office.evidence(contact, "contact", STRANGER))
    with pytest.raises(Refused):
        await office.desk.put_party(b"{}", "")
    assert office.hands.letters == []


# --- leases and ends -----------------------------------------------------------------------------------


async def test_leases_are_renewed_from_its_own_register(office: Office) -> None:
    await office.give()
    renewed = await office.desk.renew({"g-1": 1, "g-2": 1})
    assert set(renewed.leases) == {"g-1"}
    assert renewed.unknown == ["g-2"]
    assert (await office.desk.renew({"g-1": 2})).unknown == ["g-1"], "a version that nobody signed"


async def test_a_withdrawal_reaches_it_past_the_ccs_and_no_lease_follows(office: Office) -> None:
    """Threat 4: the CCS keeps the withdrawal back, and goes on asking for leases."""
    await office.know()
    proposed = await office.desk.propose(msgspec.json.encode(office.document()))
    [letter] = office.hands.letters
    await office.desk.confirm(proposed.proposal, code_in(letter))
    link = re.search(r"withdraw\?grant=(\S+)&code=(\S+)", letter.text)
    assert link
    grant, code = link.groups()
    assert not await office.desk.withdraw_by_code(grant, "f" * 32)
    assert (await office.desk.renew({grant: 1})).leases
    assert await office.desk.withdraw_by_code(grant, code)
    renewed = await office.desk.renew({grant: 1})
    assert (renewed.leases, renewed.ended) == ({}, {grant: 1})
    again = office.document(version=2, issued_us=office.hands.at_us)
    await refused(office, again, office.evidence(msgspec.json.encode(again)), Reason.ACCESS_DISABLED)
    ended = await office.desk.ended(0)
    assert ended.grants == {grant: 1}
    assert (await office.desk.ended(ended.next)).grants == {}


async def test_what_the_ccs_ends_is_believed_and_remembered_up_to_where_it_told(office: Office) -> None:
    await office.give()
    assert (await office.desk.ended(0)).told == -1
    assert await office.desk.withdraw({"g-1": 1, "never-seen": 4}, "ccs", sequence=17) == {
        "g-1": 1,
        "never-seen": 4,
    }
    assert (await office.desk.ended(0)).told == 17
    assert await office.desk.withdraw({"g-1": 1}, "ccs", sequence=3) == {}
    assert (await office.desk.ended(0)).told == 17
    late = office.document(grant="never-seen", version=5)
    await refused(office, late, office.evidence(msgspec.json.encode(late)), Reason.ACCESS_DISABLED)


def test_leases_that_were_given_together_are_not_renewed_together() -> None:
    ends = [lease_until_us(f"g-{n}", 2**60, 0) for n in range(2_000)]
    assert max(ends) <= LEASE_US_MAX
    hours = [end // (3600 * US) for end in ends]
    assert all(hours.count(hour) < len(hours) / 4 for hour in set(hours))
    assert lease_until_us("g-1", 5, 0) == 5, "never past the permission"


# --- its keys ------------------------------------------------------------------------------------------


async def test_it_hands_over_to_a_new_key_step_by_step_and_signs_anew(tmp_path: Path, office: Office) -> None:
    await office.give()
    before = office.key.public_keys()
    ops = {"ops": public_jwk(OPERATOR.key.public_key())}
    office.key.put_operations(ops, 1)
    both = office.key.begin_handing_over(2)
    assert len(both.authority) == 2
    old = await office.desk.renew({"g-1": 1})
    assert verify(old.leases["g-1"], before, "lease")
    last = office.key.finish_handing_over(3)
    assert last.operations == ops
    steps = office.key.trust
    trusted = before
    for step in steps:
        said = msgspec.json.decode(verify(step, trusted, "trust"), type=TrustDocument)
        trusted = said.authority
    assert trusted == office.key.public_keys() != before
    renewed = await office.desk.renew({"g-1": 1})
    with pytest.raises(Refused):
        verify(renewed.leases["g-1"], before, "lease")
    assert verify(renewed.documents["g-1"], trusted, "grant")
    assert AuthorityKey(tmp_path).public_keys() == trusted, "kept over a restart"
