"""The consent authority as a process of its own: asked over HTTPS, with the client certificate it gave us."""

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from doorward.ccs.rules.consents import Ends, GivenGrant, Renewals
from doorward.kit.files import write_atomically
from doorward.kit.tls import Credentials, client_context
from doorward.wire.enrolment import consent_fingerprint
from doorward.wire.grants import GrantDocument, LeaseDocument
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import payload_of

ASK_WAIT_S_MAX = 20.0
ANSWER_BYTES_MAX = 4 * 1024 * 1024
KEYS_FILE = "consent-keys.json"

A = TypeVar("A")


class AuthorityUnreachable(Exception):
    """The consent authority does not answer, or not as it should; the message says where and how."""


class AuthorityKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Whom gateways believe, as the authority says it."""

    keys: dict[str, dict[str, str]]
    fingerprint: str
    trust: list[str] = []


class _Proposed(msgspec.Struct, frozen=True, kw_only=True):
    proposal: str
    sent_to: str
    expires_us: int


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    reason: Reason
    detail: str = ""
    field: str = ""


class RemoteAuthority:
    """The authority at ``url``; ``credentials`` is the directory that ``… credentials OUT`` made.

    Calls raise :class:`AuthorityUnreachable`, and :class:`Refused` with the authority's own reason.
    """

    def __init__(self, url: str, credentials: Path) -> None:
        self._url = url.rstrip("/")
        try:
            ca = (credentials / "ca.pem").read_text(encoding="utf-8")
            self._ssl = client_context(ca, Credentials(credentials / "ccs.pem", credentials / "ccs.key", ca))
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"{credentials}: what the consent authority gave us: {error}") from None
        self._http: aiohttp.ClientSession | None = None

    async def keys(self) -> AuthorityKeys:
        """Return whom gateways believe."""
        return await self._ask("GET", "/v1/keys", AuthorityKeys)

    async def sign(self, document: GrantDocument, evidence: str = "") -> GivenGrant:
        """Have a permission signed: on evidence, or without where it narrows what stands."""
        return await self._document("/v1/grants", msgspec.json.encode(document), evidence, GivenGrant)

    async def propose(self, document: GrantDocument) -> tuple[str, str]:
        """Have the customer asked by the authority's own letter; return the question's id, and to whom it went."""
        said = await self._document("/v1/proposals", msgspec.json.encode(document), "", _Proposed)
        return said.proposal, said.sent_to

    async def confirm(self, proposal: str, code: str) -> GivenGrant:
        """Pass on the code that the customer typed."""
        path = f"/v1/proposals/{quote(proposal, safe='')}/confirmation"
        return await self._ask("POST", path, GivenGrant, {"code": code})

    async def renew(self, grants: Mapping[str, int]) -> Renewals:
        """Renew leases of permissions (id → version)."""
        return await self._ask("POST", "/v1/leases", Renewals, {"grants": dict(grants)})

    async def tell(self, grants: Mapping[str, int], sequence: int) -> None:
        """Tell of permissions that ended here, up to a change of ours."""
        body = {"grants": dict(grants), "sequence": sequence}
        await self._ask("POST", "/v1/withdrawals", dict, body)

    async def ended(self, after: int) -> Ends:
        """Return what ended at the authority, after a number of its."""
        return await self._ask("GET", f"/v1/withdrawals?after={after}", Ends)

    async def put_party(self, document: bytes, evidence: str) -> None:
        """Put a third party into the authority's register."""
        await self._document("/v1/parties", document, evidence, dict)

    async def put_contact(self, document: bytes, evidence: str) -> None:
        """Put a customer's address into the authority's register."""
        await self._document("/v1/contacts", document, evidence, dict)

    async def close(self) -> None:
        """Close connections; idempotent."""
        if self._http is not None:
            await self._http.close()

    async def _document(self, path: str, document: bytes, evidence: str, kind: type[A]) -> A:
        return await self._ask("POST", path, kind, {"document": document.decode(), "evidence": evidence})

    async def _ask(self, method: str, path: str, kind: type[A], body: dict[str, Any] | None = None) -> A:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_WAIT_S_MAX))
        raw = None if body is None else msgspec.json.encode(body)
        try:
            async with self._http.request(
                method, self._url + path, data=raw, ssl=self._ssl, allow_redirects=False
            ) as response:
                answer = await response.content.read(ANSWER_BYTES_MAX)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AuthorityUnreachable(f"the consent authority at {self._url}: {error}") from None
        try:
            if status == 200:
                return msgspec.json.decode(answer, type=kind)
            problem = msgspec.json.decode(answer, type=_Problem)
        except msgspec.DecodeError as error:
            raise AuthorityUnreachable(f"the consent authority at {self._url}: {status}, {error}") from None
        raise Refused(problem.reason, problem.detail, field=problem.field)


class SignedAhead:
    """What the authority signed before a transaction, for those who build permissions inside it.

    A :class:`~doorward.ccs.ports.ConsentAuthority` that holds no key: it refuses what it was not given.
    """

    def __init__(self, keys: AuthorityKeys, given: Iterable[GivenGrant] = ()) -> None:
        self._keys = keys
        self._given = {each.grant: each for each in given}

    def became(self, keys: AuthorityKeys) -> None:
        """The authority handed over to other keys."""
        self._keys = keys

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's raw public key, in hex: what enrolment codes carry."""
        return self._keys.fingerprint

    def sign_grant(self, document: bytes) -> str:
        """Return the authority's signature over what says the same, whenever it was issued."""
        wanted = msgspec.json.decode(document, type=GrantDocument)
        given = self._given.get(wanted.grant)
        if given is not None:
            said = msgspec.json.decode(payload_of(given.document), type=GrantDocument)
            if msgspec.structs.replace(wanted, issued_us=said.issued_us) == said:
                return given.document
        raise Refused(
            Reason.SIGNATURE_INVALID,
            "the consent authority has not signed this; it needs the customer's code or an operator's evidence",
        )

    def sign_lease(self, document: bytes) -> str:
        """Return the lease that came with the permission."""
        wanted = msgspec.json.decode(document, type=LeaseDocument)
        given = self._given.get(wanted.grant)
        if given is None:
            raise Refused(Reason.LEASE_ENDED, "the consent authority gave no lease")
        return given.lease

    def public_keys(self) -> dict[str, dict[str, str]]:
        """``kid`` → JWK of the keys that gateways trust."""
        return self._keys.keys

    @property
    def trust(self) -> list[str]:
        """Whom gateways that enrolled before are to believe: signed, step by step."""
        return self._keys.trust


async def authority_keys(authority: RemoteAuthority, directory: Path) -> AuthorityKeys:
    """Return the authority's keys; those of the last time where it cannot be reached now.

    Raises :class:`AuthorityUnreachable` when there was no last time.
    """
    path = directory / KEYS_FILE
    try:
        keys = await authority.keys()
    except AuthorityUnreachable:
        if not path.exists():
            raise
        return msgspec.json.decode(path.read_bytes(), type=AuthorityKeys)
    for jwk in keys.keys.values():
        consent_fingerprint(jwk)
    write_atomically(path, msgspec.json.encode(keys))
    return keys
