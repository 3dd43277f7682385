"""The CCS, put together: the only file that knows everybody."""

import asyncio
import hmac
import random
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from pathlib import Path

import structlog

from doorward.ccs.access_desk import AccessDesk
from doorward.ccs.agreeing import Agreeing, By
from doorward.ccs.attempts import Attempts
from doorward.ccs.comings import Comings
from doorward.ccs.css import CustomerService
from doorward.ccs.doors.api.app import Door, Parts
from doorward.ccs.doors.api.meter import CallMeter
from doorward.ccs.doors.enrol import enrol_app
from doorward.ccs.doors.portal.app import Portal
from doorward.ccs.doors.portal.rendering import Pages
from doorward.ccs.doors.portal.security import Cookies, FormProof
from doorward.ccs.doors.portal.visit import Parts as PortalParts
from doorward.ccs.doors.systems.app import ROOT as SYSTEMS
from doorward.ccs.doors.systems.app import TAKES
from doorward.ccs.endpoints import Endpoints
from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.engines.consent import LocalConsentAuthority
from doorward.ccs.engines.consent_remote import (
    AuthorityUnreachable,
    RemoteAuthority,
    SignedAhead,
    authority_keys,
)
from doorward.ccs.engines.keys import Keys, load_keys
from doorward.ccs.engines.link_mqtt import MqttLink
from doorward.ccs.engines.link_websocket import WebSocketLink
from doorward.ccs.engines.opening import open_store
from doorward.ccs.engines.secrets import SecretHasher
from doorward.ccs.engines.standard_formats import standard_documents
from doorward.ccs.engines.webhook_address import AddressPolicy, AddressRefused, check_url
from doorward.ccs.engines.webhooks import AiohttpNotifier
from doorward.ccs.enrolment import Enrolling, Enrolment
from doorward.ccs.feeding import Feeding
from doorward.ccs.journey import Journey
from doorward.ccs.leasing import Apart, Leasing, built_in
from doorward.ccs.ports import AllBooks, Link, Store
from doorward.ccs.possession import Possession
from doorward.ccs.reading import Reading
from doorward.ccs.recording import Recording
from doorward.ccs.rules.facts import FormatRow, Gateway, Grant, Thing
from doorward.ccs.rules.feed import SCOPES
from doorward.ccs.rules.formats import Catalogue, check_format
from doorward.ccs.rules.identity import TokenReader
from doorward.ccs.settings import AUTHORITY_DIR, SQLITE_FILE, CcsSettings
from doorward.ccs.signing_in import SignIn
from doorward.ccs.systems import Systems
from doorward.ccs.tokens import TokenDesk
from doorward.ccs.upkeep import SHARE, Ownership, Upkeep
from doorward.kit.clock import Clock, SlewingClock
from doorward.kit.ids import uuid7
from doorward.kit.serving import HttpServer, listen
from doorward.wire.enrolment import LinkAddress
from doorward.wire.messages import Certificate
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import sign

log = structlog.get_logger(__name__)

CATALOGUE_LOOK_S = 2.0
TIME_LOOK_S = 30.0
GATEWAYS_LOOK_S = 15.0
REVOKED_LOOK_S = 1.0
CONSENT_LOOK_S = 10.0
GATEWAYS_PAGE = 1_000
KEYS_DIR = "keys"
PORTAL_KEY = b"doorward portal 1"
JOINED = "joined"
"""The hint that a gateway enrolled at one of the workers."""


class GatewayList:
    """Which certificate each gateway has now: the link asks without waiting for the books."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._certificates: dict[str, tuple[str, str]] = {}
        """Gateway → the fingerprint of its certificate, and of the one before a renewal."""
        self._generations: dict[str, int] = {}
        self.switched: Callable[[str, str], None] = lambda _gateway, _fingerprint: None
        """Called when a gateway comes with a renewed certificate for the first time."""

    def accepts(self, gateway: str, fingerprint: str) -> bool:
        """Whether the link may let in this gateway with this certificate."""
        now, before = self._certificates.get(gateway, ("", ""))
        if fingerprint and fingerprint == now and before:
            self._certificates[gateway] = (now, "")
            self.switched(gateway, fingerprint)
        return bool(fingerprint) and fingerprint in (now, before)

    def enrolled(self, gateway: str) -> bool:
        """Whether a gateway may be spoken with."""
        return gateway in self._certificates

    def joined(self, gateway: Gateway) -> None:
        """A gateway was just enrolled here."""
        self._certificates[gateway.id] = (gateway.certificate, gateway.certificate_before)
        self._generations[gateway.id] = gateway.key_generation

    async def look(self) -> tuple[list[Gateway], list[str]]:
        """Read all anew; return those that changed, and the ids that may not connect any more."""
        seen: dict[str, Gateway] = {}
        after = ""
        while True:
            page = await self._page(after)
            seen |= {each.id: each for each in page if each.state == "enrolled"}
            if len(page) < GATEWAYS_PAGE:
                break
            after = max(each.id for each in page)
        gone = [id for id in self._certificates if id not in seen]
        changed = [
            each
            for each in seen.values()
            if (self._certificates.get(each.id), self._generations.get(each.id))
            != ((each.certificate, each.certificate_before), each.key_generation)
        ]
        self._certificates = {id: (each.certificate, each.certificate_before) for id, each in seen.items()}
        self._generations = {id: each.key_generation for id, each in seen.items()}
        return changed, gone

    async def _page(self, after: str) -> list[Gateway]:
        async def read(books: AllBooks) -> list[Gateway]:
            ids = await books.known(Thing.GATEWAY, after=after, limit=GATEWAYS_PAGE)
            return list((await books.gateways(ids)).values())

        return await self._store.read(read)


class CcsApp:
    """One worker of the CCS: built by :meth:`start`, ended by :meth:`stop`.

    ``worker`` names it among others; ``listening`` is the API's socket, where several share one. ``clock``
    is the wall's unless the caller plays it; ``rng`` must be the system's, for keys and tokens come from it.
    """

    def __init__(
        self,
        settings: CcsSettings,
        rng: random.Random,
        *,
        worker: str = "",
        listening: socket.socket | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(rng, random.SystemRandom):
            raise ValueError("the CCS needs the system's randomness: ids, secrets and tokens come from it")
        self.settings = settings
        self._ahead_us = 0
        self.clock = clock or SlewingClock(self._wall_s, time.monotonic)
        self._rng = rng
        self._worker = worker or f"w-1-{rng.getrandbits(32):08x}"
        self._listening = listening
        self._catalogue = Catalogue([])
        self._duties: list[asyncio.Task[None]] = []
        self._errands: set[asyncio.Task[None]] = set()
        self._servers: list[HttpServer] = []
        self._stopping = False
        self._started = False

    # ---- what others may ask -----------------------------------------------------------------------

    @property
    def url(self) -> str:
        """How third parties reach the API."""
        return self._issuer

    @property
    def enrol_url(self) -> str:
        """Where gateways enrol."""
        return f"https://{_bracketed(self.settings.gateway_hosts[0])}:{self._enrol_server.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that gateways trust."""
        return self.authority.path

    # ---- start and stop ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything and serve; what was opened is closed again if it fails."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        self._started = True

    async def _start(self) -> None:
        settings = self.settings
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open_keys()
        await self._open_consent()
        listening = self._listening or listen(settings.host, settings.port)
        self._issuer = settings.public_url.rstrip("/") or _url(settings, listening.getsockname()[1])
        self.store = await open_store(database_url(settings), clock=self.clock)
        await self._look_at_the_time()
        await self._fill_catalogue()
        self.gateways = GatewayList(self.store)
        await self.gateways.look()
        self._build_way()
        await self._serve(listening)
        await self.upkeep.partitions()
        await self.store.listen(self._heard)
        self._keep(
            self.upkeep.run,
            self.recording.run,
            self.journey.pushing.run,
            self.feeding.run,
            self.css.run,
            self._watch_catalogue,
            self._watch_gateways,
            self._watch_consent,
            self._watch_the_time,
        )

    def _open_keys(self) -> None:
        authority = self.settings.data_dir / AUTHORITY_DIR
        self.authority = CertificateAuthority(authority, self.clock.now_us)
        self.keys: Keys = load_keys(self.settings.data_dir / KEYS_DIR, self._rng)

    async def _open_consent(self) -> None:
        """The authority that signs permissions: built in, or a process of its own that is asked."""
        settings = self.settings
        self.authority_apart: RemoteAuthority | None = None
        self.consent: LocalConsentAuthority | SignedAhead
        if settings.consent_credentials is None:
            self.consent = LocalConsentAuthority(settings.data_dir / AUTHORITY_DIR)
            return
        self.authority_apart = RemoteAuthority(settings.consent_url, settings.consent_credentials)
        try:
            keys = await authority_keys(self.authority_apart, settings.data_dir)
        except AuthorityUnreachable as error:
            raise OSError(str(error)) from None
        self.consent = SignedAhead(keys)

    def _leasing(self) -> Leasing:
        apart = self.authority_apart
        if apart is None:
            return built_in(self.journey, self.consent)
        return Leasing(self.journey, Apart(apart), self._ended_there, apart, lambda: self.consent.trust)

    async def _ended_there(self, grants: Sequence[Grant]) -> None:
        """End permissions here that their customers ended at the consent authority."""
        for grant in grants:
            asked_us = self.clock.now_us()
            by = By(person="consent-authority", why="ended at the consent authority", asked_us=asked_us)
            try:
                await self.access.run(
                    lambda books, now_us, g=grant, b=by: self.access.agreeing.withdraw(  # type: ignore[misc]
                        books, b, g.party, g.service_point, now_us
                    )
                )
            except Refused as refused:
                if refused.reason is not Reason.NOT_FOUND:
                    raise

    def _build_way(self) -> None:
        settings = self.settings
        policy = AddressPolicy(allow_networks=tuple(settings.webhook_allow_networks))
        self.notifier = AiohttpNotifier(self.keys.webhook.key, policy)
        self.tokens = TokenReader(self.keys.token.public, self._issuer, self._issuer)
        self.ownership = Ownership(self._worker)
        self.link: Link = self._make_link()
        self.journey = Journey(
            store=self.store,
            link=self.link,
            notifier=self.notifier,
            clock=self.clock,
            rng=self._rng,
            tokens=self.tokens,
            catalogue=lambda: self._catalogue,
            claim=lambda: self.ownership,
            master_key=self.keys.link,
            terms=settings.terms(),
            trust=lambda: self.consent.trust,
        )
        by_rule = settings.contract_approval == "rule"
        agreeing = Agreeing(self.consent, self._rng, settings.utility_name, by_rule=by_rule)
        self.access = AccessDesk(self.journey, agreeing)
        self.upkeep = Upkeep(
            self.journey,
            self.ownership,
            self.consent,
            self._rng,
            shared=settings.link == "mqtt",
            leasing=self._leasing(),
        )
        self.recording = Recording(
            self.journey, lambda: self.ownership, self._sign_record, self._rng, settings.keep()
        )
        self._wrong_url = _url_checker(policy)
        self._build_systems()

    def _build_systems(self) -> None:
        """The utility's other systems: their tokens are for their own door, which names this CCS to them."""
        source = f"{self._issuer}{SYSTEMS}"
        reader = TokenReader(self.keys.token.public, self._issuer, source, "system")
        self.systems = Systems(self.journey, reader, source)
        self.css = CustomerService(self.journey, self.access, reader)
        self.feeding = Feeding(
            self.store, self.notifier, self.clock, self._rng, self.settings.terms(), source
        )
        self.comings = Comings(self.store, self.clock)
        self.journey.came_or_went = self.comings.tell

    def _make_link(self) -> Link:
        settings = self.settings
        if settings.link == "mqtt":
            # The broker's rules list workers by name, so a worker that is started again has the same one.
            name = f"{settings.mqtt_name}-{_number(self._worker)}"
            credentials = self.authority.worker(name)
            return MqttLink(settings.mqtt_url, credentials, name, self.gateways.enrolled, self._rng)
        credentials = self.authority.server("link", settings.gateway_hosts)
        return WebSocketLink(settings.link_host, settings.link_port, credentials, self.gateways.accepts)

    async def _serve(self, listening: socket.socket) -> None:
        settings = self.settings
        await self.link.start(self.journey.receive, self.journey.presence)
        self.door = Door(self._door_parts())
        enrolment = self.authority.server("enrol", settings.gateway_hosts)
        self._enrol_server = HttpServer(
            self._enrol_door(),
            listen(settings.enrol_host, settings.enrol_port, shared=settings.workers > 1),
            certificate=enrolment.certificate,
            key=enrolment.key,
            stop_wait_s_max=settings.stop_wait_s_max,
        )
        self._api_server = HttpServer(
            self.door,
            listening,
            certificate=settings.tls_certificate,
            key=settings.tls_key,
            client_ca=settings.tls_client_ca,
            trusted_proxies=settings.trusted_proxies,
            stop_wait_s_max=settings.stop_wait_s_max,
        )
        for server in (self._enrol_server, self._api_server):
            self._servers.append(server)
            await server.start()

    def _door_parts(self) -> Parts:
        reading = Reading(self.journey, lambda: self._catalogue)
        self.secrets = SecretHasher(self._rng.randbytes(32))
        possession = Possession(self.store, self.clock, self._issuer)
        desk = TokenDesk(
            store=self.store,
            clock=self.clock,
            rng=self._rng,
            key=self.keys.token.key,
            kid=self.keys.token.kid,
            issuer=self._issuer,
            audience=self._issuer,
            endpoint=f"{self._issuer}/oauth/token",
            reader=self.tokens,
            system_audience=f"{self._issuer}{SYSTEMS}",
            system_reader=self.systems.tokens,
            matches=self.secrets.matches,
            possession=possession,
        )
        self.attempts = Attempts(self.store, self.journey.refusals, self.clock)
        return Parts(
            journey=self.journey,
            reading=reading,
            endpoints=self._endpoints(),
            systems=self.systems,
            css=self.css,
            system_endpoints=Endpoints(
                self.store,
                self.systems.tokens,
                self.notifier,
                self._wrong_url,
                self.clock,
                self._rng,
                scopes=SCOPES,
                kinds=frozenset({TAKES}),
            ),
            desk=desk,
            possession=possession,
            takes_certificates=self.settings.tls_client_ca is not None,
            attempts=self.attempts,
            meter=CallMeter(self.store, time.monotonic, self.settings.workers),
            issuer=self._issuer,
            token_keys=self.keys.token.public,
            webhook_keys=self.keys.webhook.public,
            ready=self._ready,
            site=self._portal(),
            shared=self.settings.is_shared,
        )

    def _endpoints(self) -> Endpoints:
        return Endpoints(self.store, self.tokens, self.notifier, self._wrong_url, self.clock, self._rng)

    def _portal(self) -> Portal:
        settings, utility = self.settings, self.settings.utility_name
        key = portal_key(self.keys.link)
        self.sign_in = SignIn(
            self.store, self.clock, self._rng, key, self.secrets.matches, self.secrets.hashed
        )
        return Portal(
            PortalParts(
                journey=self.journey,
                sign_in=self.sign_in,
                desk=self.access,
                pages=Pages(utility),
                cookies=Cookies(secure=self._issuer.startswith("https://")),
                proof=FormProof(key),
                endpoints=self._endpoints(),
                hashed=self.secrets.hashed,
                issuer=self._issuer,
                utility=utility,
                zone=settings.timezone,
                demo=settings.portal_choose,
            )
        )

    def _enrol_door(self) -> object:
        enrolment = self._enrolment = Enrolment(
            self.store,
            self._sign,
            self.consent,
            Enrolling(master=self.keys.link, ca=self.authority.pem, link=self._link_address()),
            self.clock,
            self._rng,
            self._joined,
        )
        self.journey.renew = self._renew
        self.gateways.switched = lambda gateway, held: self._soon(enrolment.switched(gateway, held))
        return enrol_app(enrolment.enrol, self.authority.pem, lambda: uuid7(self.clock.now_us(), self._rng))

    def _link_address(self) -> LinkAddress:
        if isinstance(self.link, WebSocketLink):
            host = _bracketed(self.settings.gateway_hosts[0])
            return LinkAddress(kind="websocket", urls=[f"wss://{host}:{self.link.port}"])
        return LinkAddress(kind="mqtt", urls=[self.settings.mqtt_url])

    async def _sign(self, csr: str, gateway: str) -> tuple[str, str]:
        return self.authority.sign_gateway(csr, gateway)

    def _sign_record(self, payload: bytes, typ: str) -> str:
        return sign(payload, self.keys.record.key, self.keys.record.kid, typ)

    def _renew(self, gateway: str, csr: str) -> None:
        """A gateway's certificate gets old; if the answer is lost, it asks again."""

        async def answer() -> None:
            pem = await self._enrolment.renew(gateway, csr)
            if pem:
                self.journey.switchboard.post(gateway, Certificate(pem=pem))

        self._soon(answer())

    def _joined(self, gateway: Gateway) -> None:
        """A gateway enrolled here; whoever serves its partition must know it too."""
        self._let_in([gateway])
        if self.settings.is_shared:
            self._soon(self.store.hint(JOINED, gateway.id))

    def _heard(self, channel: str, payload: str) -> None:
        if channel == JOINED:
            self._soon(self._learn_of(payload))
        elif channel == SHARE:
            if payload != self._worker:
                self._soon(self._share_anew())
        else:
            self.journey.heard(channel, payload)

    async def _share_anew(self) -> None:
        if not self._stopping:
            await self.upkeep.partitions()

    async def _learn_of(self, gateway: str) -> None:
        found = await self.store.read(lambda books: books.gateways([gateway]))
        self._let_in([each for each in found.values() if each.state == "enrolled"])

    def _let_in(self, gateways: Collection[Gateway]) -> None:
        for gateway in gateways:
            self.gateways.joined(gateway)
        self.journey.switchboard.learn({gateway.id: gateway for gateway in gateways})
        if isinstance(self.link, MqttLink):
            self.link.learned()

    def _soon(self, errand: Coroutine[None, None, None]) -> None:
        """Run an errand that may be lost: looking at all gateways makes up for it."""

        async def run() -> None:
            try:
                await errand
            except Exception:
                log.exception("a word between workers was lost")

        task = asyncio.ensure_future(run())
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def stop(self) -> None:
        """Stop without refusing anybody: no new connections, then what runs is finished, then all is closed.

        Idempotent, and also right after a start that failed half-way.
        """
        self._stopping = True
        stops = [asyncio.ensure_future(server.stop()) for server in self._servers]
        await asyncio.sleep(0)  # let the sockets close before those who wait are let go
        if self._of("door"):
            self.door.close()
        await asyncio.gather(*stops)
        tasks = [*self._duties, *self._errands]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        """Close what there is: what waits for a transaction gets it first."""
        if self._of("journey"):
            await self.journey.asks.drained()
        if self._of("attempts"):
            await self.attempts.drained()
        if self._of("comings"):
            await self.comings.drained()
        if self._started and self.settings.is_shared:
            await self.upkeep.leave()
        if self._of("link"):
            await self.link.stop()
        if self._of("authority_apart") and self.authority_apart is not None:
            await self.authority_apart.close()
        if self._of("notifier"):
            await self.notifier.close()
        if self._of("secrets"):
            self.secrets.close()
        if self._of("store"):
            await self.store.close()

    def _of(self, name: str) -> bool:
        """Whether a part has come into being: a start may have failed half-way."""
        return name in self.__dict__

    # ---- what goes on beside ------------------------------------------------------------------------

    def _keep(self, *duties: Callable[[], Awaitable[None]]) -> None:
        for duty in duties:
            self._duties.append(asyncio.ensure_future(duty()))

    async def failed(self) -> None:
        """Return, or raise, when something that should run for ever has ended."""
        done, _ = await asyncio.wait(self._duties, return_when=asyncio.FIRST_COMPLETED)
        for duty in done:
            duty.result()

    async def _ready(self) -> str:
        if self._stopping or not self._started:
            return "stopping" if self._stopping else "starting"
        await self.store.read(lambda books: books.formats_version())
        return ""

    def _wall_s(self) -> float:
        """The time that all workers go by: the database's, where there are several (DESIGN §4)."""
        return time.time() + self._ahead_us / 1_000_000

    async def _look_at_the_time(self) -> None:
        self._ahead_us = await self.store.ahead_us(time.time)

    async def _watch_the_time(self) -> None:
        while True:
            await asyncio.sleep(TIME_LOOK_S)
            try:
                await self._look_at_the_time()
            except Exception:
                log.exception("the database's time could not be read; we go on by what we know")

    async def _fill_catalogue(self) -> None:
        """Put the standard formats in at first start; then load whatever is there."""

        async def fill(books: AllBooks) -> None:
            _, rows = await books.formats()
            there = {(row.name, row.version) for row in rows}
            await books.put_formats([row for row in _standard() if (row.name, row.version) not in there])

        await self.store.write(fill)
        await self._load_catalogue()

    async def _load_catalogue(self) -> None:
        version, rows = await self.store.read(lambda books: books.formats())
        self._catalogue = Catalogue.of(rows, version)

    async def _watch_catalogue(self) -> None:
        while True:
            await asyncio.sleep(CATALOGUE_LOOK_S)
            try:
                if await self.store.read(lambda books: books.formats_version()) != self._catalogue.version:
                    await self._load_catalogue()
            except Exception:
                log.exception("the catalogue of formats could not be read; the one before stays")

    async def _watch_consent(self) -> None:
        """The authority may have handed over to another key, or named other operations keys."""
        while self.authority_apart is not None:
            await asyncio.sleep(CONSENT_LOOK_S)
            try:
                keys = await self.authority_apart.keys()
            except (AuthorityUnreachable, Refused) as error:
                log.warning("the consent authority cannot be asked; leases run on for now", why=str(error))
            else:
                assert isinstance(self.consent, SignedAhead)
                before = self.consent.trust
                self.consent.became(keys)
                if keys.trust != before:
                    self.journey.tell_trust()
        await asyncio.Event().wait()

    async def _watch_gateways(self) -> None:
        """Gateways may be enrolled by another process, or revoked: that is looked at every second."""
        version, looks = -1, 0
        while True:
            await asyncio.sleep(REVOKED_LOOK_S)
            try:
                now = await self.store.read(lambda books: books.gateways_version())
                looks += 1
                if now != version or looks * REVOKED_LOOK_S >= GATEWAYS_LOOK_S:
                    await self._look_at_gateways()
                    version, looks = now, 0
            except Exception:
                log.exception("the list of gateways could not be read; the one before stays")

    async def _look_at_gateways(self) -> None:
        changed, gone = await self.gateways.look()
        self._let_in(changed)
        for gateway in gone:
            self.journey.switchboard.forget(gateway)
            await self.link.drop(gateway)
        if changed and isinstance(self.link, WebSocketLink):
            await self.link.expel()


async def prepare(settings: CcsSettings, rng: random.Random) -> None:
    """Make keys and bring the books up to date, once, before several workers start."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    clock = SlewingClock(time.time, time.monotonic)
    CertificateAuthority(settings.data_dir / AUTHORITY_DIR, clock.now_us)
    if settings.consent_credentials is None:
        LocalConsentAuthority(settings.data_dir / AUTHORITY_DIR)
    load_keys(settings.data_dir / KEYS_DIR, rng)
    store = await open_store(database_url(settings), clock=clock)
    await store.close()


def portal_key(link_key: bytes) -> bytes:
    """Return the key of forms and one-time links, drawn from the gateways' master secret: all workers have it."""
    return hmac.digest(link_key, PORTAL_KEY, "sha256")


def database_url(settings: CcsSettings) -> str:
    """Return the store's URL: SQLite in the data directory unless the settings name another."""
    if settings.database:
        return settings.database
    return f"sqlite:///{(settings.data_dir / SQLITE_FILE).absolute()}"


def _standard() -> Collection[FormatRow]:
    rows = []
    for document in standard_documents():
        format_ = check_format(document)
        rows.append(FormatRow(name=format_.name, version=format_.version, state="active", document=document))
    return rows


def _url(settings: CcsSettings, port: int) -> str:
    scheme = "https" if settings.tls_certificate else "http"
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host  # noqa: S104
    return f"{scheme}://{_bracketed(host)}:{port}"


def _number(worker: str) -> str:
    """Return the number in a worker's name: ``w-2-…``."""
    return worker.split("-")[1]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _url_checker(policy: AddressPolicy) -> Callable[[str], str]:
    def wrong(url: str) -> str:
        try:
            check_url(url, policy)
        except AddressRefused as error:
            return str(error)
        return ""

    return wrong
