"""How a gateway joins: a one-time code and a key of its own become a certificate and a MAC key.

One transaction decides, spends the code and writes the journal. The code's hash is not erased but
bound to the key that used it: should the answer get lost, the same code with the same key may come
again until the code runs out, and gets the same; with any other key it is as wrong as a guessed one.
"""

import hmac
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from enum import Enum

import msgspec

from doorward.ccs.ports import AllBooks, Books, ConsentAuthority, Store
from doorward.ccs.rules.facts import Gateway, JournalRow, StepRecord
from doorward.kit.clock import Clock
from doorward.kit.ids import uuid7
from doorward.wire.codec import gateway_key
from doorward.wire.enrolment import (
    EnrolAnswer,
    EnrolAsk,
    LinkAddress,
    code_hash,
    csr_key,
    is_gateway_id,
    key_hash,
    spent_hash,
)
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import b64url
from doorward.wire.steps import Outcome, Step

Sign = Callable[[str, str], Awaitable[tuple[str, str]]]
"""(CSR, gateway) → (certificate in PEM, its SHA-256 in hex). The authority stands outside the CCS."""

MINUTE_US = 60_000_000
REFUSED_PER_MINUTE_MAX = 10
SOURCES_MAX = 10_000
SENTENCE = "The enrolment code is not valid, or not any more."


class Verdict(Enum):
    """What a code and a key amount to; the value goes into the journal."""

    FIRST = ""
    AGAIN = "the same code and key again"
    WRONG = "unknown gateway or wrong code"
    EXPIRED = "the code has run out"
    REVOKED = "the gateway is revoked"

    @property
    def is_yes(self) -> bool:
        """Whether the gateway may have its certificate."""
        return self in (Verdict.FIRST, Verdict.AGAIN)


class Enrolling(msgspec.Struct, frozen=True, kw_only=True):
    """Where an enrolled gateway goes and whom it trusts: ``master`` is the secret behind all MAC keys."""

    master: bytes
    ca: str
    link: LinkAddress


class RefusalCounter:
    """Counts refused attempts per source and minute, for a bounded number of sources."""

    def __init__(self, per_minute_max: int, sources_max: int) -> None:
        self._per_minute_max = per_minute_max
        self._sources_max = sources_max
        self._minute = 0
        self._refused: Counter[str] = Counter()

    def may_try(self, source: str, now_us: int) -> bool:
        """Whether ``source`` may try; nobody new may while too many sources have been refused."""
        self._turn(now_us)
        refused = self._refused.get(source, 0)
        known = bool(refused) or len(self._refused) < self._sources_max
        return known and refused < self._per_minute_max

    def refused(self, source: str, now_us: int) -> None:
        """Count a refusal."""
        self._turn(now_us)
        self._refused[source] += 1

    def _turn(self, now_us: int) -> None:
        minute = now_us // MINUTE_US
        if minute != self._minute:
            self._minute = minute
            self._refused.clear()


async def revoke(books: AllBooks, ids: Collection[str], now_us: int, rng: random.Random) -> list[str]:
    """Take gateways out for good: no certificate of theirs is accepted any more; return those that were in.

    Raises ``not-found`` naming the ids that are no gateways.
    """
    found = await books.gateways(ids, lock=True)
    if unknown := sorted(set(ids) - set(found)):
        raise Refused(Reason.NOT_FOUND, f"there are no gateways {', '.join(unknown)}")
    ended = [each for each in found.values() if each.state != "revoked"]
    await books.put_gateways(
        [
            msgspec.structs.replace(
                each, state="revoked", certificate="", certificate_before="", code_hash="", code_expires_us=0
            )
            for each in ended
        ]
    )
    await books.write_journal(
        [
            _row(uuid7(now_us, rng), each.id, "revoked by the utility", now_us, Step.WITHDRAWN)
            for each in ended
        ]
    )
    await books.turn_gateways()
    return sorted(each.id for each in ended)


def judge(gateway: Gateway | None, hashed: str, key: str, now_us: int) -> Verdict:
    """Decide about a code (by its hash) that a public key (by its hash) presents for a gateway."""
    held = gateway.code_hash if gateway is not None else ""
    first = hmac.compare_digest(held, hashed)
    again = hmac.compare_digest(held, spent_hash(hashed, key))
    if gateway is None or not (first or again):
        return Verdict.WRONG
    if now_us >= gateway.code_expires_us:
        return Verdict.EXPIRED
    if gateway.state == "revoked":
        return Verdict.REVOKED
    return Verdict.FIRST if first else Verdict.AGAIN


class Enrolment:
    """Answers gateways that bring a code.

    ``sign`` is the certificate authority's; ``joined`` is told of every gateway that got a certificate,
    after the commit, so that the link accepts it.
    """

    def __init__(
        self,
        store: Store,
        sign: Sign,
        consent: ConsentAuthority,
        enrolling: Enrolling,
        clock: Clock,
        rng: random.Random,
        joined: Callable[[Gateway], None],
        *,
        refused_per_minute_max: int = REFUSED_PER_MINUTE_MAX,
        sources_max: int = SOURCES_MAX,
    ) -> None:
        self._store = store
        self._sign = sign
        self._consent = consent
        self._enrolling = enrolling
        self._clock = clock
        self._rng = rng
        self._joined = joined
        self._counter = RefusalCounter(refused_per_minute_max, sources_max)
        self._renewed: dict[str, int] = {}

    async def enrol(self, ask: EnrolAsk, source: str) -> EnrolAnswer:
        """Take a gateway in; ``source`` is the address it comes from.

        Raises :class:`Refused`: ``rate-limited`` after too many refusals, ``body-malformed`` for a CSR
        that does not prove its key, ``not-authenticated`` for every code that is not good, whatever the
        cause (the journal knows it).
        """
        now_us = self._clock.now_us()
        if not self._counter.may_try(source, now_us):
            raise Refused(
                Reason.RATE_LIMITED, "too many enrolment codes were refused", retry_after_s=MINUTE_US / 1e6
            )
        try:
            return await self._enrol(ask)
        except Refused:
            self._counter.refused(source, now_us)
            raise

    async def renew(self, gateway: str, csr: str) -> str:
        """Return a new certificate (PEM) for an enrolled gateway that asks over its own link.

        The one before stays good until the gateway comes with the new one. ``""`` when it asked less than
        a minute ago, or is not enrolled. Raises ``body-malformed`` for a request that does not prove its key.
        """
        now_us = self._clock.now_us()
        if now_us - self._renewed.get(gateway, 0) < MINUTE_US:
            return ""
        self._renewed.pop(gateway, None)
        self._renewed[gateway] = now_us
        if len(self._renewed) > SOURCES_MAX:
            self._renewed.pop(next(iter(self._renewed)))
        csr_key(csr)
        certificate, fingerprint = await self._sign(csr, gateway)

        async def step(books: Books) -> Gateway | None:
            found = (await books.gateways([gateway], lock=True)).get(gateway)
            if found is None or found.state != "enrolled":
                return None
            before = found.certificate_before or found.certificate
            held = msgspec.structs.replace(found, certificate=fingerprint, certificate_before=before)
            await books.put_gateways([held])
            detail = "its certificate was renewed"
            await books.write_journal([_row(uuid7(now_us, self._rng), gateway, detail, now_us)])
            return held

        held = await self._store.write(step)
        if held is None:
            return ""
        self._joined(held)
        return certificate

    async def switched(self, gateway: str, fingerprint: str) -> None:
        """The gateway came with its new certificate: the one before is worth nothing from now on."""

        async def step(books: Books) -> Gateway | None:
            found = (await books.gateways([gateway], lock=True)).get(gateway)
            if found is None or found.certificate != fingerprint or not found.certificate_before:
                return None
            held = msgspec.structs.replace(found, certificate_before="")
            await books.put_gateways([held])
            return held

        held = await self._store.write(step)
        if held is not None:
            self._joined(held)

    async def _enrol(self, ask: EnrolAsk) -> EnrolAnswer:
        if not is_gateway_id(ask.gateway):
            raise Refused(Reason.BODY_MALFORMED, "this cannot name a gateway", field="/gateway")
        hashed, key = code_hash(ask.code), key_hash(csr_key(ask.csr))
        now_us = self._clock.now_us()
        message = uuid7(now_us, self._rng)

        async def look(books: Books) -> Verdict:
            found = (await books.gateways([ask.gateway])).get(ask.gateway)
            return judge(found, hashed, key, now_us)

        seen = await self._store.read(look)
        # only a good code is worth a signature
        certificate, fingerprint = await self._sign(ask.csr, ask.gateway) if seen.is_yes else ("", "")

        async def step(books: Books) -> Gateway | None:
            found = (await books.gateways([ask.gateway], lock=True)).get(ask.gateway)
            verdict = judge(found, hashed, key, now_us) if seen.is_yes else seen
            await books.write_journal([_row_of(message, ask.gateway, verdict, now_us)])
            if found is None or not verdict.is_yes:
                return None
            taken = _taken_in(found, verdict, fingerprint, spent_hash(hashed, key))
            await books.put_gateways([taken])
            return taken

        gateway = await self._store.write(step)
        if gateway is None:
            raise Refused(Reason.NOT_AUTHENTICATED, SENTENCE, field="/code")
        self._joined(gateway)
        return self._answer(gateway, certificate)

    def _answer(self, gateway: Gateway, certificate: str) -> EnrolAnswer:
        mac_key = gateway_key(self._enrolling.master, gateway.id, gateway.key_generation)
        return EnrolAnswer(
            certificate=certificate,
            ca=self._enrolling.ca,
            link=self._enrolling.link,
            mac_key=b64url(mac_key),
            key_generation=gateway.key_generation,
            consent_keys=self._consent.public_keys(),
            ccs_time_us=self._clock.now_us(),
        )


def _taken_in(gateway: Gateway, verdict: Verdict, fingerprint: str, spent: str) -> Gateway:
    """Return the gateway with its new certificate; a first use also turns the MAC key's generation.

    A new generation makes every old frame worthless, so counting starts anew with it, and whatever the
    gateway held before is pushed again.
    """
    held = msgspec.structs.replace(
        gateway, state="enrolled", certificate=fingerprint, certificate_before="", code_hash=spent
    )
    if verdict is Verdict.AGAIN:
        return held
    return msgspec.structs.replace(
        held,
        key_generation=gateway.key_generation + 1,
        up_epoch=0,
        up_counter=0,
        applied_version=0,
        applied_us=0,
    )


def _row_of(message: str, gateway: str, verdict: Verdict, now_us: int) -> JournalRow:
    if verdict.is_yes:
        return _row(message, gateway, verdict.value, now_us)
    row = _row(message, gateway, verdict.value, now_us)
    refused = msgspec.structs.replace(row.steps[0], outcome=Outcome.REFUSED, reason=Reason.NOT_AUTHENTICATED)
    return msgspec.structs.replace(row, steps=[refused])


def _row(message: str, gateway: str, detail: str, now_us: int, step: Step = Step.ENROLLED) -> JournalRow:
    record = StepRecord(at_us=now_us, step=step, detail=detail)
    return JournalRow(
        message=message,
        at_us=now_us,
        party="",
        service_point="",
        gateway=gateway,
        device="",
        steps=[record],
    )
