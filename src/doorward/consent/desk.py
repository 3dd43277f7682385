"""What the authority is asked, and on what it says yes.

A permission is signed on evidence that the CCS cannot make: an operator's signature over this very document,
or the code that *we* sent to the customer with the words of what is asked. What only narrows a permission
needs none, and what ends it is always believed. Leases are renewed from our own register, so that a withdrawal
that somebody keeps back from a gateway ends there with the lease.
"""

import hmac
import random
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TypeVar

import msgspec

from doorward.consent import rules
from doorward.consent.keys import AuthorityKey
from doorward.consent.outbox import Letter, Outbox
from doorward.consent.register import Books, Proposal, Register
from doorward.consent.rules import Contact, PartyRecord, Standing
from doorward.kit.clock import Clock
from doorward.kit.ids import uuid7
from doorward.wire.codec import NOT_JSON
from doorward.wire.grants import GrantDocument, LeaseDocument, lease_until_us
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import kid_of

R = TypeVar("R")
T = TypeVar("T")

HOUR_US = 3600 * rules.US
PROPOSALS_PER_HOUR_MAX = 5
"""Letters to one home in an hour: nobody is to be worn down into a yes."""
ENDED_ROWS_MAX = 1_000


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What the authority gives for a permission: two compact JWS."""

    grant: str
    document: str
    lease: str


class Proposed(msgspec.Struct, frozen=True, kw_only=True):
    """A permission that waits for its customer."""

    proposal: str
    sent_to: str
    expires_us: int


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """Leases by grant; versions of those that ended; and those that are not in the register as they were asked.

    ``documents`` are grants signed anew, after the authority changed its key.
    """

    leases: dict[str, str] = {}
    ended: dict[str, int] = {}
    unknown: list[str] = []
    documents: dict[str, str] = {}


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Permissions that ended here; ``next`` is where to go on; ``told`` is up to where the CCS has told us."""

    next: int
    grants: dict[str, int]
    told: int


Operators = Callable[[], dict[str, dict[str, str]]]
"""``kid`` → JWK of the operators whose evidence counts."""


class ConsentDesk:
    """The authority's decisions. ``address`` is where customers can end a permission without the CCS."""

    def __init__(
        self,
        register: Register,
        key: AuthorityKey,
        outbox: Outbox,
        operators: Operators,
        clock: Clock,
        rng: random.Random,
        address: str,
    ) -> None:
        self._register = register
        self._key = key
        self._outbox = outbox
        self._operators = operators
        self._clock = clock
        self._rng = rng
        self._address = address

    # --- a yes -----------------------------------------------------------------------------------------

    async def sign(self, raw: bytes, evidence: str) -> Signed:
        """Sign a grant document on an operator's evidence, or without where it only narrows what stands.

        Raises :class:`Refused`; a refusal is on our record too.
        """
        return await self._recorded("grant", raw, lambda books: self._sign(books, raw, evidence))

    def _sign(self, books: Books, raw: bytes, evidence: str) -> Signed:
        document = _decoded(raw, GrantDocument)
        now_us = self._clock.now_us()
        held = self._held(books, document.grant)
        if held is not None and rules.is_same(document, held):
            return self._given(held.document, held.signed, now_us)
        rules.require_next(document, held, now_us)
        if evidence:
            by = rules.require_evidence(evidence, self._operators(), "grant", raw, now_us)
            rules.require_signing(document, books.party(document.party))
        elif held is not None and rules.is_narrower(document, held.document):
            by = "narrower"
        else:
            raise Refused(
                Reason.SIGNATURE_INVALID, "this widens what the customer allowed; evidence is missing"
            )
        return self._put(books, document, by, "", now_us)

    def _held(self, books: Books, grant: str) -> Standing | None:
        held = books.standing(grant)
        if held is None and books.ended(grant) >= 0:
            raise Refused(Reason.ACCESS_DISABLED, f"{grant} was withdrawn; a new yes needs a new grant")
        return held

    def _put(self, books: Books, document: GrantDocument, by: str, withdraw_hash: str, now_us: int) -> Signed:
        signed = self._key.sign_grant(msgspec.json.encode(document))
        books.put_standing(document, signed, withdraw_hash)
        books.log(now_us, "granted", f"{document.grant} version {document.version}", by, document.party)
        return self._given(document, signed, now_us)

    def _given(self, document: GrantDocument, signed: str, now_us: int) -> Signed:
        return Signed(grant=document.grant, document=signed, lease=self._lease(document, now_us))

    def _lease(self, document: GrantDocument, now_us: int) -> str:
        lease = LeaseDocument(
            grant=document.grant,
            version=document.version,
            until_us=lease_until_us(document.grant, document.expires_us, now_us),
            issued_us=now_us,
        )
        return self._key.sign_lease(msgspec.json.encode(lease))

    # --- a yes of the customer -------------------------------------------------------------------------

    async def propose(self, raw: bytes) -> Proposed:
        """Ask the customer, past the CCS: send the words of a permission and a code to the address *we* have.

        Keys of the third party, and whether it must sign, are our register's. Raises :class:`Refused`:
        ``not-found`` for a company or a home that is not in it, ``rate-limited``.
        """
        code = f"{self._rng.randrange(10**rules.CODE_DIGITS):0{rules.CODE_DIGITS}}"
        ending = self._rng.randbytes(16).hex()
        prepared = await self._recorded(
            "proposal", raw, lambda books: self._propose(books, raw, code, ending)
        )
        proposal, contact, party = prepared
        await self._outbox.send(self._letter(proposal.document, contact, party, code, ending))
        return Proposed(proposal=proposal.id, sent_to=_masked(contact.email), expires_us=proposal.expires_us)

    def _propose(
        self, books: Books, raw: bytes, code: str, ending: str
    ) -> tuple[Proposal, Contact, PartyRecord]:
        document = _decoded(raw, GrantDocument)
        now_us = self._clock.now_us()
        party, contact = books.party(document.party), books.contact(document.service_point)
        if party is None or contact is None:
            missing = "company" if party is None else "home"
            raise Refused(Reason.NOT_FOUND, f"the authority does not know this {missing}")
        rules.require_next(document, self._held(books, document.grant), now_us)
        since_us = now_us + rules.CODE_US - HOUR_US
        if books.proposed_since(document.service_point, since_us) >= PROPOSALS_PER_HOUR_MAX:
            raise Refused(
                Reason.RATE_LIMITED, "this home was asked too often", retry_after_s=HOUR_US / rules.US
            )
        id = uuid7(now_us, self._rng)
        proposal = Proposal(
            id=id,
            document=rules.with_party(document, party),
            code_hash=_hash(id, code),
            withdraw_hash=_hash(document.grant, ending),
            expires_us=now_us + rules.CODE_US,
        )
        books.drop_proposals([], now_us - HOUR_US)
        books.put_proposal(proposal)
        books.log(now_us, "proposed", f"{document.grant} version {document.version}", "", document.party)
        return proposal, contact, party

    def _letter(
        self, document: GrantDocument, contact: Contact, party: PartyRecord, code: str, ending: str
    ) -> Letter:
        text = (
            f"{rules.words_of(document, party.name)}\n\n"
            f"If you want this, type the code {code} where you asked for it, within 15 minutes.\n"
            "If you did not ask for it, do nothing, and give the code to nobody.\n\n"
            f"To end it later, at any time: {self._address}/withdraw?grant={document.grant}&code={ending}\n"
        )
        return Letter(to=contact.email, subject=f"{party.name} asks for your permission", text=text)

    async def confirm(self, proposal: str, code: str) -> Signed:
        """Sign what was proposed: its customer has the code that only our letter said.

        Raises ``not-found`` (none, over, or too many wrong codes), ``signature-invalid`` for a wrong code.
        """

        def step(books: Books) -> Signed | Refused:
            found = books.proposal(proposal)
            now_us = self._clock.now_us()
            if found is None or now_us >= found.expires_us or found.tries >= rules.CODE_TRIES_MAX:
                return Refused(Reason.NOT_FOUND, "there is no such question, or its time is over")
            if not hmac.compare_digest(found.code_hash, _hash(found.id, code)):
                books.put_proposal(msgspec.structs.replace(found, tries=found.tries + 1))
                books.log(now_us, "refused", found.document.grant, "code", "a wrong code")
                return Refused(Reason.SIGNATURE_INVALID, "the code is wrong", field="/code")
            document = msgspec.structs.replace(found.document, issued_us=now_us)
            rules.require_next(document, self._held(books, document.grant), now_us)
            books.drop_proposals([found.id], now_us - HOUR_US)
            return self._put(books, document, "code", found.withdraw_hash, now_us)

        answer = await self._register.write(step)
        if isinstance(answer, Refused):
            raise answer
        return answer

    # --- a no, always believed -------------------------------------------------------------------------

    async def withdraw(self, grants: Mapping[str, int], by: str, sequence: int = -1) -> dict[str, int]:
        """End permissions up to these versions; return those for which it is news. ``by`` says who told us."""

        def step(books: Books) -> dict[str, int]:
            new = books.end(grants)
            for grant, version in new.items():
                books.log(self._clock.now_us(), "withdrawn", f"{grant} up to version {version}", by)
            if sequence > books.told():
                books.put_told(sequence)
            return new

        return await self._register.write(step)

    async def withdraw_by_code(self, grant: str, code: str) -> bool:
        """End a permission with the code of the customer's letter; whether code and permission belong together."""

        def step(books: Books) -> bool:
            kept, held = books.withdraw_hash(grant), books.standing(grant)
            if not kept or held is None or not hmac.compare_digest(kept, _hash(grant, code)):
                return False
            if books.end({grant: held.document.version}):
                books.log(self._clock.now_us(), "withdrawn", grant, "customer")
            return True

        return await self._register.write(step)

    async def ended(self, after: int) -> Ended:
        """Return what ended here after a number, however it ended."""

        def step(books: Books) -> Ended:
            number, grants = books.ended_after(after, ENDED_ROWS_MAX)
            return Ended(next=number, grants=grants, told=books.told())

        return await self._register.read(step)

    # --- leases ----------------------------------------------------------------------------------------

    async def renew(self, grants: Mapping[str, int]) -> Renewed:
        """Renew leases of permissions (id → version) that stand in our register in just this version."""
        return await self._register.write(lambda books: self._renew(books, grants))

    def _renew(self, books: Books, grants: Mapping[str, int]) -> Renewed:
        now_us = self._clock.now_us()
        renewed = Renewed()
        for grant, version in grants.items():
            held, ended = books.standing(grant), books.ended(grant)
            if version <= ended:
                renewed.ended[grant] = ended
            elif held is None or held.document.version != version or now_us >= held.document.expires_us:
                renewed.unknown.append(grant)
            else:
                renewed.leases[grant] = self._lease(held.document, now_us)
                if kid_of(held.signed) != self._key.kid:
                    signed = self._key.sign_grant(msgspec.json.encode(held.document))
                    books.put_standing(held.document, signed)
                    renewed.documents[grant] = signed
        return renewed

    # --- who -------------------------------------------------------------------------------------------

    async def put_party(self, raw: bytes, evidence: str) -> None:
        """Take a third party into the register, on an operator's evidence."""

        def step(books: Books) -> None:
            now_us = self._clock.now_us()
            by = rules.require_evidence(evidence, self._operators(), "party", raw, now_us)
            party = _decoded(raw, PartyRecord)
            books.put_party(party)
            books.log(now_us, "party", party.id, by, f"keys {', '.join(sorted(party.keys)) or 'none'}")

        await self._recorded("party", raw, step)

    async def put_contact(self, raw: bytes, evidence: str) -> None:
        """Take a customer's address into the register, on an operator's evidence."""

        def step(books: Books) -> None:
            now_us = self._clock.now_us()
            by = rules.require_evidence(evidence, self._operators(), "contact", raw, now_us)
            contact = _decoded(raw, Contact)
            books.put_contact(contact)
            books.log(now_us, "contact", contact.service_point, by)

        await self._recorded("contact", raw, step)

    async def _recorded(self, what: str, raw: bytes, step: Callable[[Books], R]) -> R:
        try:
            return await self._register.write(step)
        except Refused as refused:
            said = f"{refused.reason}: {refused.detail}"
            now_us, about = self._clock.now_us(), f"{what} {rules.digest(raw)[:16]}"
            await self._register.write(lambda books: books.log(now_us, "refused", about, "", said))
            raise


def _decoded(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except NOT_JSON as error:
        raise Refused(Reason.BODY_MALFORMED, f"document: {error}", field="/document") from None


def _hash(salt: str, code: str) -> str:
    return sha256(f"{salt}|{code}".encode()).hexdigest()


def _masked(email: str) -> str:
    name, _, host = email.partition("@")
    return f"{name[:1]}…@{host}"
