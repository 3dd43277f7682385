"""The sockets of the CCS: what the journey needs from the outside, in its own words.

``Store`` runs one *step* (a coroutine function over ``Books``) in one transaction. Every method of
``Books`` takes many and answers for each; a step is three moves: load, decide, write.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from doorward.ccs.rules.consents import Ends, Renewals
from doorward.ccs.rules.contracts import Contract, Offer
from doorward.ccs.rules.css import CssEvent, CustomerFlag, Flag, Mark
from doorward.ccs.rules.facts import (
    Account,
    Credential,
    Customer,
    Device,
    Endpoint,
    Event,
    FormatRow,
    Gateway,
    Grant,
    JournalRow,
    LimitLog,
    LinkKind,
    Meter,
    Party,
    Place,
    Provisioned,
    Request,
    ServicePoint,
    Thing,
    Tier,
)
from doorward.ccs.rules.facts import Link as DatedLink
from doorward.ccs.rules.feed import Subscription
from doorward.ccs.rules.fleet import FleetLog, Hold, Quarantined
from doorward.ccs.rules.homes import AccessChange, HomeNote, PartyNote
from doorward.ccs.rules.people import Person, Session
from doorward.wire.chain import Head, PeerHead

R = TypeVar("R")

Pair = tuple[str, str]


class Claim(Protocol):
    """What a worker owns: the partitions, and the fencing epoch of its lease."""

    @property
    def worker(self) -> str:
        """The worker's name."""
        ...

    @property
    def epoch(self) -> int:
        """The fencing epoch."""
        ...

    @property
    def partitions(self) -> frozenset[int]:
        """What it owns now."""
        ...


class LeaseLost(Exception):
    """The worker no longer holds a lease that the step needs: nothing was written."""


class FleetBooks(Protocol):
    """What moves load (X04), in one transaction. Rows are locked in the order: holds, then logs."""

    async def fleet_holds(self, pairs: Collection[Pair]) -> dict[Pair, Hold]:
        """The last control of each (party, subject), row-locked in order."""
        ...

    async def fleet_holds_of(self, requests: Collection[str]) -> list[Hold]:
        """What these requests hold and did not let go, row-locked in order."""
        ...

    async def put_fleet_holds(self, holds: Sequence[Hold]) -> None:
        """Insert or replace by (party, subject)."""
        ...

    async def lock_fleet(self, keys: Collection[str]) -> dict[str, FleetLog]:
        """The logs of ``keys``, row-locked in sorted order; an unknown key gives an empty log."""
        ...

    async def write_fleet(self, logs: Collection[FleetLog]) -> None:
        """Replace logs that this transaction holds locked."""
        ...

    async def fleet_logs(self, limit: int) -> list[FleetLog]:
        """Logs as they stand, by key, without a lock."""
        ...

    async def put_quarantined(self, items: Sequence[Quarantined]) -> None:
        """Insert or replace by request."""
        ...

    async def quarantined_count(self) -> int:
        """How many requests are in quarantine."""
        ...

    async def list_quarantined(
        self, *, party: str = "", area: str = "", campaign: str = "", after: str = "", limit: int = 100
    ) -> list[Quarantined]:
        """What is in quarantine, oldest first, after the id of a request; ``""`` means any."""
        ...

    async def lock_quarantined(self, requests: Collection[str]) -> dict[str, Quarantined]:
        """What is in quarantine of these requests, row-locked in sorted order."""
        ...

    async def end_quarantine(self, requests: Collection[str]) -> None:
        """These requests left quarantine."""
        ...


class Books(FleetBooks, Protocol):
    """One transaction. Nothing here commits; reads see the transaction's own writes.

    Mappings leave out what does not exist. All sequences are bounded by their callers.
    """

    # facts for the way out
    async def parties(self, ids: Collection[str]) -> dict[str, Party]:
        """Third parties by id."""
        ...

    async def revoked_tokens(self, token_ids: Collection[str]) -> set[str]:
        """Those of the token ids that were revoked."""
        ...

    async def revoke_tokens(self, tokens: Mapping[str, int]) -> None:
        """Record revoked token ids with the time (µs) after which they need not be remembered."""
        ...

    async def use_proofs(self, proofs: Mapping[str, int]) -> set[str]:
        """Record one-time ids (JWT ids of client assertions) until a time; return those seen before."""
        ...

    async def tiers(self) -> dict[str, Tier]:
        """All tiers by name."""
        ...

    async def devices(self, ids: Collection[str]) -> dict[str, Device]:
        """Devices with a live link to a service point, by id."""
        ...

    async def devices_at(self, service_points: Collection[str]) -> dict[str, list[Device]]:
        """Live devices per service point, ordered by id."""
        ...

    async def places(self, service_points: Collection[str], now_us: int) -> dict[str, Place]:
        """Service points with their live gateway; one without a gateway is left out."""
        ...

    async def grants(self, pairs: Collection[Pair]) -> dict[Pair, Grant]:
        """The newest grant of each (party, service point), live or withdrawn."""
        ...

    async def requests_by_key(self, pairs: Collection[Pair]) -> dict[Pair, Request]:
        """Requests by (party, idempotency key)."""
        ...

    async def lock_limits(self, keys: Collection[str]) -> dict[str, LimitLog]:
        """The limit logs of ``keys``, row-locked in sorted order; an unknown key gives an empty log."""
        ...

    async def write_limits(self, logs: Collection[LimitLog]) -> None:
        """Replace logs that this transaction holds locked."""
        ...

    async def limits(self, keys: Collection[str]) -> dict[str, LimitLog]:
        """The limit logs of ``keys`` as they stand, without a lock; an unknown key is left out."""
        ...

    async def insert_requests(self, requests: Sequence[Request]) -> set[str]:
        """Insert; return the ids that went in. One whose (party, key) exists already does not, silently."""
        ...

    async def write_journal(self, rows: Sequence[JournalRow], peers: Iterable[PeerHead] = ()) -> Head | None:
        """Append rows to the journal under one link of its chain, which also covers what gateways said of
        their own records. Return the head that this is once it has committed; ``None`` for no rows."""
        ...

    # the way to the gateway
    async def fence(self, claim: Claim, partitions: Collection[int], now_us: int) -> None:
        """Raise :class:`LeaseLost` unless ``claim`` holds all ``partitions`` now; holds them till the end."""
        ...

    async def claim_ready(
        self, gateways: Collection[str], now_us: int, room: int, class_max: int
    ) -> list[Request]:
        """Requests to send: ``ready_us`` passed, class at most ``class_max``, most urgent class first, then
        earliest deadline. At most ``room`` per gateway. Locked; rows that another transaction holds are
        skipped."""
        ...

    async def ready_gateways(self, partitions: Collection[int] | None, now_us: int, limit: int) -> set[str]:
        """Gateways for which something is ready, in these partitions (``None``: all)."""
        ...

    async def requests(self, ids: Collection[str], *, lock: bool = False) -> dict[str, Request]:
        """Requests by id; ``lock`` takes row locks in sorted order."""
        ...

    async def final_among(self, ids: Collection[str]) -> set[str]:
        """Those of the ids whose requests are final."""
        ...

    async def update_requests(self, requests: Sequence[Request]) -> None:
        """Write everything that moves in a request (state, times, attempt, result, answer …)."""
        ...

    async def gateways(self, ids: Collection[str], *, lock: bool = False) -> dict[str, Gateway]:
        """Gateways by id."""
        ...

    async def frame_marks(self, ids: Collection[str]) -> dict[str, tuple[int, int]]:
        """The highest (epoch, counter) of frames from gateways, whose rows stay locked."""
        ...

    async def mark_frames(self, marks: Mapping[str, tuple[int, int]], now_us: int) -> None:
        """Store the high-water (epoch, counter) of frames from gateways, and that they were seen."""
        ...

    async def open_at(self, gateway: str) -> list[str]:
        """Ids of requests of a gateway in SENT or AT_GATEWAY."""
        ...

    # the way back
    async def add_events(self, events: Sequence[Event]) -> None:
        """Append to the third parties' feeds; the store gives each its cursor."""
        ...

    async def feed_end(self, party: str) -> str:
        """The cursor after which a party's feed has nothing yet (``""`` when it is empty)."""
        ...

    async def claim_events(self, now_us: int, until_us: int, limit: int) -> list[Event]:
        """Events whose webhook is due; their ``next_us`` is set to ``until_us`` so that nobody else takes them."""
        ...

    async def events_of(self, requests: Collection[str], kind: str) -> dict[str, Event]:
        """The newest event of ``kind`` per request."""
        ...

    async def events(self, ids: Collection[str]) -> dict[str, Event]:
        """Events by id."""
        ...

    async def update_events(self, events: Sequence[Event]) -> None:
        """Write webhook state, attempts, ``next_us`` of events (by id)."""
        ...

    async def feed(self, party: str, after: str, kinds: Collection[str], limit: int) -> list[Event]:
        """Events of a party after a cursor (``""``: from the beginning), oldest first, never skipping one
        that commits late. An empty ``kinds`` means all."""
        ...

    async def endpoints(self, parties: Collection[str]) -> dict[str, list[Endpoint]]:
        """Webhook endpoints per party."""
        ...

    async def put_endpoint(self, endpoint: Endpoint) -> None:
        """Insert or replace an endpoint by (party, id)."""
        ...

    async def delete_endpoint(self, party: str, endpoint: str) -> bool:
        """Remove an endpoint; whether it was there."""
        ...

    # what time does
    async def due(self, now_us: int, limit: int) -> list[Request]:
        """Requests that are not final and whose ``due_us`` has passed, locked, skipping held ones."""
        ...

    async def to_warn(self, now_us: int, limit: int) -> list[Request]:
        """Requests whose ``warn_us`` (not 0) has passed and that are not final, locked, skipping held ones."""
        ...

    async def undelivered(self, before_us: int, limit: int) -> list[Request]:
        """Final requests with no answer whose ``final_us`` is before ``before_us``, locked."""
        ...

    async def prune_proofs(self, now_us: int) -> int:
        """Forget one-time ids that nobody could use any more; how many."""
        ...

    async def prune(self, now_us: int) -> int:
        """Drop what no rule can need any more (proofs, revoked tokens past their time); how many rows."""
        ...

    # the record
    async def heads(self) -> list[Head]:
        """The newest link of every writer of the journal."""
        ...

    async def last_checkpoint(self) -> tuple[int, str]:
        """Number and document of the newest checkpoint; ``(0, "")`` before the first."""
        ...

    async def add_checkpoint(self, number: int, at_us: int, document: str) -> None:
        """Keep a checkpoint; of two that make the same one at once, the second fails."""
        ...

    async def oldest_day(self) -> int | None:
        """The first day (since 1970) of which the journal holds rows."""
        ...

    async def rows_of_day(self, day: int) -> int:
        """How many rows the journal holds of messages of a day."""
        ...

    async def tombstone(self, day: int) -> str:
        """The signed tombstone of a day whose rows are being dropped, or nothing."""
        ...

    async def last_tombstone(self) -> str:
        """The tombstone of the latest day that has one, or nothing."""
        ...

    async def add_tombstone(self, day: int, at_us: int, document: str) -> None:
        """Say that the rows of a day are no longer kept."""
        ...

    async def drop_rows(self, day: int, limit: int) -> int:
        """Drop a slice of a day's rows, or the day as a whole where it is a partition; how many rows went."""
        ...

    async def erase_payloads(self, after: str, before: str, limit: int) -> str:
        """Erase what requests between two ids carried, once they are final: bodies, answers, and the salts of
        their digests. Looks at so many; returns the last id, or nothing at the end."""
        ...

    # several workers
    async def beat(self, worker: str, now_us: int, until_us: int) -> list[str]:
        """Say that ``worker`` lives until ``until_us``; return all living workers, sorted."""
        ...

    async def take_leases(
        self, worker: str, wanted: Collection[int], now_us: int, until_us: int
    ) -> tuple[int, set[int]]:
        """Renew or take those of ``wanted`` that are free, expired or ours; give up ours that are not wanted.

        Returns the fencing epoch under which all of them are now held (greater than any before whenever
        one was newly taken: max(stored + 1, unix seconds)) and the set that is held."""
        ...

    # what a third party reads
    async def list_requests(
        self,
        party: str,
        *,
        after: str = "",
        limit: int = 50,
        states: Collection[str] = (),
        device: str = "",
        service_point: str = "",
        campaign: str = "",
    ) -> list[Request]:
        """Requests of a party, newest first, older than the id ``after``."""
        ...

    async def journal(self, message: str) -> list[JournalRow]:
        """All rows of one message, in the order in which they were written."""
        ...

    async def grants_of(self, party: str, *, after: int = -1, limit: int = 100) -> list[Grant]:
        """Grants of a party ordered by ``sequence``, after a sequence number (the change feed)."""
        ...

    async def credentials(self, party: str) -> list[Credential]:
        """Credentials of a party that have not ended."""
        ...

    # access and the catalogue
    async def formats(self) -> tuple[int, list[FormatRow]]:
        """The catalogue's version and all formats in it."""
        ...

    async def formats_version(self) -> int:
        """The catalogue's version; grows with every change."""
        ...

    async def put_formats(self, rows: Sequence[FormatRow]) -> None:
        """Insert or change formats; the catalogue's version grows if anything changed."""
        ...

    async def put_grants(self, grants: Sequence[Grant]) -> None:
        """Insert or replace grants by id (and give each its ``sequence``); the desired version of every
        gateway concerned grows."""
        ...

    async def provisioned(self, gateways: Collection[str]) -> dict[str, Provisioned]:
        """Desired state of gateways."""
        ...

    async def unprovisioned(self, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Gateways whose applied version is behind the desired one."""
        ...

    async def applied(
        self,
        versions: Mapping[str, int],
        now_us: int,
        failed: Mapping[str, Mapping[str, str]] | None = None,
    ) -> list[AccessChange]:
        """Gateways have confirmed these versions of their desired state: they hold what changed up to them,
        apart from the grants that they could not take (``failed``: gateway → grant → why). Return the changes
        of which that is news."""
        ...

    async def put_gateways(self, gateways: Sequence[Gateway]) -> None:
        """Insert or replace gateways (enrolment, revocation)."""
        ...

    async def gateways_version(self) -> int:
        """Grows with every revocation of a gateway."""
        ...

    async def turn_gateways(self) -> None:
        """Say that a gateway was revoked: whoever serves gateways looks at them anew."""
        ...

    async def gateway_by_code(self, code_hash: str) -> Gateway | None:
        """The gateway that an unused enrolment code belongs to, row-locked."""
        ...

    async def renew_leases(self, grants: Sequence[Grant]) -> None:
        """Store the new lease (time and document) of grants; nothing else of them changes."""
        ...

    async def grants_live(self, ids: Collection[str]) -> list[Grant]:
        """Live grants among these ids."""
        ...

    async def withdrawn_since(self, sequence: int, limit: int) -> list[Grant]:
        """Withdrawn grants whose last change is after ``sequence``, in that order."""
        ...

    async def leases_to_renew(self, before_us: int, limit: int) -> list[Grant]:
        """Live grants whose lease ends before ``before_us``."""
        ...


class Registry(Protocol):
    """What is set up: the same transaction as :class:`Books`, for ``doorward apply`` and the portal.

    Reads are by id and leave out what does not exist. Puts insert or replace by id. Whatever changes what
    a gateway should hold makes its desired version grow. Third parties and gateways are read, and gateways
    put, through :class:`Books`.
    """

    async def known(self, thing: Thing, *, after: str = "", limit: int = 1000) -> list[str]:
        """Ids of all things of a kind in order, from the first one greater than ``after``."""
        ...

    async def put_tiers(self, tiers: Sequence[Tier]) -> None:
        """Insert or replace tiers by name."""
        ...

    async def put_parties(self, parties: Sequence[Party]) -> None:
        """Insert or replace third parties; a suspension acts in the next transaction."""
        ...

    async def put_credentials(self, credentials: Sequence[Credential]) -> None:
        """Insert or replace credentials by id; one is ended by its ``not_after_us``."""
        ...

    async def customers(self, ids: Collection[str]) -> dict[str, Customer]:
        """Customers by id."""
        ...

    async def put_customers(self, customers: Sequence[Customer]) -> None:
        """Insert or replace customers."""
        ...

    async def accounts(self, ids: Collection[str]) -> dict[str, Account]:
        """Accounts by id."""
        ...

    async def put_accounts(self, accounts: Sequence[Account]) -> None:
        """Insert or replace accounts."""
        ...

    async def service_points(self, ids: Collection[str]) -> dict[str, ServicePoint]:
        """Service points by id, with or without a gateway."""
        ...

    async def put_service_points(self, service_points: Sequence[ServicePoint]) -> None:
        """Insert or replace service points."""
        ...

    async def meters(self, ids: Collection[str]) -> dict[str, Meter]:
        """Meters by id."""
        ...

    async def put_meters(self, meters: Sequence[Meter]) -> None:
        """Insert or replace meters."""
        ...

    async def equipment(self, ids: Collection[str]) -> dict[str, Device]:
        """Devices of the catalogue by id, linked or not; ``service_point`` is ``""`` without a live link."""
        ...

    async def put_equipment(self, devices: Sequence[Device]) -> None:
        """Insert or replace devices; their ``service_point`` is not looked at (that is a link)."""
        ...

    async def links(
        self,
        kind: LinkKind,
        *,
        a: Collection[str] | None = None,
        b: Collection[str] | None = None,
        live_us: int | None = None,
    ) -> list[DatedLink]:
        """Links of a kind from any of ``a`` and to any of ``b`` (``None``: whatever), ordered by (a, b,
        since); only those live at ``live_us`` where it is given."""
        ...

    async def put_links(self, links: Sequence[DatedLink]) -> None:
        """Add links. One that is there (same kind, a, b and beginning) gets the new end.

        Raises :class:`LinkTaken` where it would be a second open link of something that may have one."""
        ...

    async def end_links(self, kind: LinkKind, pairs: Collection[Pair], until_us: int) -> int:
        """End the open links of these (a, b) pairs; how many there were."""
        ...


class LinkTaken(Exception):
    """An open link is in the way: ``link`` is the one that was asked for."""

    def __init__(self, link: DatedLink) -> None:
        super().__init__(f"{link.kind.value} {link.a} to {link.b}: another link is open; end that one first")
        self.link = link


class PeopleBooks(Protocol):
    """People and their sessions, in the same transaction as :class:`Books`."""

    async def people(self, ids: Collection[str]) -> dict[str, Person]:
        """People by id."""
        ...

    async def people_of(self, of: Collection[str]) -> list[Person]:
        """People who act for any of these customers, third parties or vendors."""
        ...

    async def people_from(self, after: str, limit: int) -> list[Person]:
        """All people in the order of their ids, after one."""
        ...

    async def person_by_login(self, login: str) -> Person | None:
        """The person who signs in by this name, row-locked: of two wrong passwords at once, both count."""
        ...

    async def put_people(self, people: Sequence[Person]) -> None:
        """Insert or replace people by id."""
        ...

    async def signed_in(self, session: str, now_us: int) -> Person | None:
        """Whose session this is, if it still runs."""
        ...

    async def put_sessions(self, sessions: Sequence[Session]) -> None:
        """Insert sessions."""
        ...

    async def end_session(self, session: str) -> None:
        """End one session; idempotent."""
        ...

    async def end_sessions(self, person: str) -> None:
        """End all sessions of a person."""
        ...

    async def prune_sessions(self, now_us: int) -> None:
        """Drop sessions that have run out."""
        ...


class AgreementBooks(Protocol):
    """Offers, contracts, changes of access and what is noted about homes, in the same transaction.

    ``since`` and ``before`` are ids (UUIDv7, so in the order of time), both left out; ``""`` is no bound.
    """

    async def offers(self, parties: Collection[str] | None = None, *, limit: int = 500) -> list[Offer]:
        """Offers of third parties, of all (``None``) or of some."""
        ...

    async def put_offers(self, offers: Sequence[Offer]) -> None:
        """Insert or replace offers by third party."""
        ...

    async def contracts(self, ids: Collection[str], *, lock: bool = False) -> dict[str, Contract]:
        """Contracts by id; ``lock``: of two who change one, the later sees what the earlier did."""
        ...

    async def contracts_at(self, service_points: Collection[str], *, lock: bool = False) -> list[Contract]:
        """All contracts for some service points, oldest first."""
        ...

    async def contracts_signed(self, limit: int) -> list[Contract]:
        """Contracts that wait for the utility's approval, longest first."""
        ...

    async def put_contracts(self, contracts: Sequence[Contract]) -> None:
        """Insert or replace contracts by id."""
        ...

    async def put_changes(self, changes: Sequence[AccessChange]) -> None:
        """Record changes of access."""
        ...

    async def changes(self, ids: Collection[str]) -> dict[str, AccessChange]:
        """Changes of access by id."""
        ...

    async def changed_by_people(self, but: str) -> dict[str, int]:
        """Grants that somebody else than ``but`` changed: grant → when last. Reads all changes."""
        ...

    async def put_notes(self, notes: Sequence[HomeNote]) -> None:
        """Note what is no message."""
        ...

    async def grants_at(self, service_points: Collection[str]) -> list[Grant]:
        """All permissions at some service points, live or not, in the order of their last change."""
        ...

    async def requests_at(
        self, service_point: str, *, since: str = "", before: str = "", limit: int = 50
    ) -> list[Request]:
        """Requests at a service point, newest first."""
        ...

    async def changes_at(
        self, service_point: str, *, since: str = "", before: str = "", limit: int = 50
    ) -> list[AccessChange]:
        """Changes of access at a service point, newest first."""
        ...

    async def notes_at(
        self, service_point: str, *, since: str = "", before: str = "", limit: int = 50
    ) -> list[HomeNote]:
        """Notes about a service point, newest first."""
        ...

    async def find_homes(self, words: Sequence[str], *, after: str = "", limit: int = 50) -> list[str]:
        """Service points that something which begins with each word belongs to (customer, account, address,
        device, gateway), in the order of their ids, after one. Words are those of ``rules.searching.asked``."""
        ...

    async def put_party_notes(self, notes: Sequence[PartyNote]) -> None:
        """Note what people of a third party did with what is theirs."""
        ...

    async def party_notes(self, party: str, *, before: str = "", limit: int = 50) -> list[PartyNote]:
        """Notes about a third party, newest first."""
        ...

    async def pushed(self, party: str, *, before: str = "", limit: int = 50) -> list[Event]:
        """Events of a third party that are or were to be pushed, newest first, before a cursor."""
        ...

    async def requests_to_send(self, gateways: Collection[str], limit: int) -> list[Request]:
        """Requests that still are to be sent to some gateways, row-locked."""
        ...


class SystemBooks(Protocol):
    """What the utility's other systems read of everybody's, and what they are told, in the same transaction.

    ``since`` and ``before`` are ids (UUIDv7, so in the order of time): from the first on, before the second.
    """

    async def all_requests(
        self, since: str, before: str, limit: int, *, party: str = "", points: Collection[str] | None = None
    ) -> list[Request]:
        """Requests, newest first: of all, of a party, or at some service points."""
        ...

    async def all_changes(
        self, since: str, before: str, limit: int, *, points: Collection[str] | None = None
    ) -> list[AccessChange]:
        """Changes of access, newest first."""
        ...

    async def journal_of_day(self, day: int, since: str, before: str, limit: int) -> list[JournalRow]:
        """Rows of messages of a day (since 1970), newest first."""
        ...

    async def everything(self, after: str, limit: int) -> list[Event]:
        """Events of all after a cursor, oldest first, never skipping one that commits late. Raises
        :class:`~doorward.wire.reasons.Refused` for what is no cursor."""
        ...

    async def everything_end(self) -> str:
        """The cursor after which there is no event yet (``""`` when there is none at all)."""
        ...

    async def everything_since(self, since: str) -> str:
        """The cursor right before the first event whose id is not less; the end where there is none."""
        ...

    async def subscriptions(self) -> list[Subscription]:
        """All subscriptions by id."""
        ...

    async def due_subscriptions(self, now_us: int, limit: int) -> list[Subscription]:
        """Active ones with an endpoint whose ``next_us`` has come."""
        ...

    async def put_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        """Insert or replace by id."""
        ...

    async def delete_subscriptions(self, ids: Collection[str]) -> int:
        """Remove some; how many there were."""
        ...

    async def move_subscription(self, was: Subscription, now: Subscription) -> bool:
        """Write how far one has come, unless it was moved or claimed since it was read; whether it was."""
        ...


class CssBooks(Protocol):
    """What the customer service system said, and whom it protects, in the same transaction as :class:`Books`."""

    async def lock_css_mark(self, subject: str) -> Mark:
        """The newest that is known of a subject, row-locked; an unknown one begins at nothing."""
        ...

    async def put_css_mark(self, subject: str, mark: Mark) -> None:
        """Say what is the newest of a subject now."""
        ...

    async def css_event(self, system: str, key: str) -> CssEvent | None:
        """An event by the id that its system gave it."""
        ...

    async def put_css_events(self, events: Sequence[CssEvent]) -> None:
        """Insert or replace events by our id."""
        ...

    async def css_waiting(self, after: str, limit: int) -> list[CssEvent]:
        """Events after an id of ours that wait for confirmations, locked, skipping held ones."""
        ...

    async def customer_flags(self, customers: Collection[str]) -> list[CustomerFlag]:
        """Flags of customers."""
        ...

    async def put_customer_flags(self, flags: Sequence[CustomerFlag]) -> None:
        """Set flags; one that is set stays as it is."""
        ...

    async def end_customer_flag(self, customer: str, kind: Flag) -> None:
        """Take a flag off; idempotent."""
        ...

    async def protected(self, service_points: Collection[str]) -> dict[str, list[str]]:
        """Protected homes among these, and the flags because of which."""
        ...

    async def put_protected(self, service_points: Mapping[str, Collection[str]]) -> None:
        """Say for each home by which flags it is protected; by none: not any more."""
        ...


class AllBooks(Books, Registry, PeopleBooks, AgreementBooks, SystemBooks, CssBooks, Protocol):
    """All views of one transaction: what a store hands to a step."""


class CommitUnsure(Exception):
    """The commit may or may not have happened (connection or disk lost in its midst): look by id before
    answering. Raised by :meth:`Store.write`."""


class StoreUnavailable(Exception):
    """The database cannot be reached, or was lost before the commit: nothing was written; try again later.
    Raised by both calls of :class:`Store`."""


class StoreTooNew(Exception):
    """The database was migrated by a newer version of Doorward; this one must not touch it."""


class Store(Protocol):
    """Transactions. Both calls raise what the step raises, after rolling back.

    Two steps at once never see half of each other. On SQLite one writer thread runs steps one by one
    and commits several together; on PostgreSQL they run side by side at READ COMMITTED with row locks,
    and are repeated when the database reports a serialisation failure or deadlock (bounded).
    """

    async def write(self, step: Callable[[AllBooks], Awaitable[R]]) -> R:
        """Run ``step`` in a transaction and commit durably before returning its result."""
        ...

    async def read(self, step: Callable[[AllBooks], Awaitable[R]]) -> R:
        """Run a step that only reads; never waits for a commit of others."""
        ...

    async def turn(self) -> None:
        """Return when a write that is asked for now begins soon; until then, what arrives can join it."""
        ...

    async def hint(self, channel: str, payload: str) -> None:
        """Tell other workers something after a commit: lossy, small."""
        ...

    async def listen(self, heard: Callable[[str, str], None]) -> None:
        """Call ``heard(channel, payload)`` for the hints of all workers, our own included."""
        ...

    async def ahead_us(self, wall_s: Callable[[], float]) -> int:
        """How far the database's clock is ahead of ``wall_s`` (half the way there and back taken off):
        several workers go by one clock. A store in our own process has our own, 0."""
        ...

    async def close(self) -> None:
        """Finish what runs and close; idempotent."""
        ...


class Link(Protocol):
    """The link to the gateways. Lossy and unordered in its promises: receipts decide, never it."""

    async def start(
        self,
        received: Callable[[str, bytes], None],
        presence: Callable[[str, bool], None],
    ) -> None:
        """Begin to serve. ``received(gateway, frame)``: the gateway is the one that the connection proved.
        ``presence(gateway, connected)``. Both are called on the loop and must not block."""
        ...

    def connected(self) -> Collection[str]:
        """Gateways that are connected now."""
        ...

    def send(self, gateway: str, frame: bytes) -> bool:
        """Hand a frame over to the transport without waiting; ``False`` when there is no room or no link."""
        ...

    async def own(self, partitions: Collection[int]) -> None:
        """Serve these partitions from now on (subscribe and unsubscribe); the direct link has all."""
        ...

    async def drop(self, gateway: str) -> None:
        """End the session of a gateway whose certificate was withdrawn."""
        ...

    async def stop(self) -> None:
        """End all sessions; idempotent."""
        ...


class Notifier(Protocol):
    """Pushes to third parties' endpoints."""

    async def push(
        self, posts: "Sequence[tuple[Endpoint, str, bytes]]", now_us: int, media: str = "application/json"
    ) -> list[str]:
        """POST each (endpoint, message id, body), signed after Standard Webhooks; return per post ``""``
        for a 2xx, or what went wrong in words. Every post ends within its time-out; addresses are checked
        against the deny list and redirects are not followed."""
        ...

    async def prove(self, endpoint: Endpoint, challenge: str, now_us: int) -> str:
        """Send the endpoint a challenge; ``""`` when it answers 2xx with the same challenge, or what went
        wrong in words."""
        ...

    async def close(self) -> None:
        """Close connections; idempotent."""
        ...


class LeaseSource(Protocol):
    """Where leases come from."""

    async def renew(self, grants: Mapping[str, Grant]) -> Renewals:
        """Return new leases of permissions, by id."""
        ...


class Grants(Protocol):
    """A consent authority apart, with a register of its own: what upkeep asks of it."""

    async def renew(self, grants: Mapping[str, int]) -> Renewals:
        """Renew leases of permissions (id → version)."""
        ...

    async def tell(self, grants: Mapping[str, int], sequence: int) -> None:
        """Tell of permissions that ended here, up to a ``sequence`` of ours."""
        ...

    async def ended(self, after: int) -> Ends:
        """Return what ended at the authority, after a number of its."""
        ...


class ConsentAuthority(Protocol):
    """Signs grants and leases, or has them signed ahead. A process of its own in production.

    Both calls raise :class:`~doorward.wire.reasons.Refused` for what it does not sign.
    """

    def sign_grant(self, document: bytes) -> str:
        """Return the compact JWS (``typ`` ``grant``) over a grant document."""
        ...

    def sign_lease(self, document: bytes) -> str:
        """Return the compact JWS (``typ`` ``lease``) over a lease document."""
        ...

    def public_keys(self) -> dict[str, dict[str, str]]:
        """``kid`` → JWK of the keys that gateways trust."""
        ...


Trusted = Callable[[], Sequence[str]]
"""Whom gateways are to believe instead: the authority's signed documents, step by step."""
