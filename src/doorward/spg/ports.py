"""The gateway's sockets: what it needs from the home network, the link, and its store."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import msgspec

from doorward.kit.clock import Clock
from doorward.spg.rules.facts import Charge, Control, Held, Intent, JournalRow, Mark, Request, Sample
from doorward.wire.chain import Head
from doorward.wire.grants import TrustDocument
from doorward.wire.messages import ProvisionedDevice, Result, Up
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import OperatingState, Operation


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a device says of itself at one moment. Power in W, energy (a counter) in Wh, °C.

    ``values`` holds what else the class has, by the vocabulary's names: ``temperature``,
    ``heat_setpoint``, ``cool_setpoint``, ``mode``, ``speed_percent``, ``tank_temperature``,
    ``present_capacity_wh``, ``plugged``, ``charging_state``, ``session_energy_wh``, ``soc_percent``,
    ``limit_w``, ``on``, ``duty_percent``, ``shed_level``, ``fault`` …
    ``overridden`` is true while somebody at home has chosen otherwise or opted out.
    """

    device: str
    at_us: int
    state: OperatingState
    power_w: float
    energy_wh: float
    values: dict[str, float | str | bool | None] = {}
    overridden: bool = False


class HanCommand(msgspec.Struct, frozen=True, kw_only=True):
    """An absolute command to one device.

    ``body`` by operation: ``limit`` {"watts"}, ``setpoint`` {"celsius"[, "which": "heat"|"cool"]},
    ``offset`` {"celsius"}: relative to the owner's setpoint in the baseline, not cumulative,
    ``mode`` {"mode"}, ``shed`` {"level": 1..3}, ``load_up`` {"level": 1..2}, ``duty_cycle``
    {"percent"}, ``program`` {"intervals": [{"at": "HH:MM", …}]}, others {}.
    ``release`` restores ``baseline``, what :meth:`HanAdapter.snapshot` gave before the first control.
    """

    operation: Operation
    body: dict[str, object]
    until_us: int = 0
    baseline: dict[str, object] | None = None
    id: str = ""
    """The request's id, for protocols that can carry one (and for the device's own file)."""


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a command, by reading back from the device (never assumed)."""

    followed: bool
    reading: Reading
    reason: Reason | None = None
    detail: str = ""


class DeviceFault(Exception):
    """A device did not do as asked: it does not answer, refuses, or answers nonsense."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter's protocol offers: shown to operators, recorded at provisioning."""

    authenticates_device: bool
    encrypts: bool
    note: str


class HanAdapter(Protocol):
    """One home protocol. Every call ends within the adapter's own time-outs.

    All calls raise :class:`DeviceFault` when the device does not do its part. Calls for *different*
    devices may run at the same time; the gateway never makes two calls for one device at once.
    """

    protocol: str
    security: Security

    async def start(self, notices: "Callable[[DeviceNotice], Awaitable[None]]") -> None:
        """Begin to listen or connect. ``notices`` is called for what devices say by themselves."""
        ...

    async def stop(self) -> None:
        """Close everything; idempotent."""
        ...

    def provision(self, devices: list[ProvisionedDevice]) -> None:
        """Replace the list of devices that may be spoken to; others are refused and reported."""
        ...

    async def read(self, device: ProvisionedDevice) -> Reading:
        """Read the device now."""
        ...

    async def snapshot(self, device: ProvisionedDevice) -> dict[str, object]:
        """Return what a control may change, as the device holds it now (JSON values only)."""
        ...

    async def command(self, device: ProvisionedDevice, command: HanCommand) -> Acted:
        """Carry out a command and read back whether the device follows it."""
        ...

    async def follows(self, device: ProvisionedDevice, command: HanCommand) -> bool:
        """Whether the device now holds what ``command`` would set; changes nothing (crash recovery)."""
        ...

    def capabilities(self, device: ProvisionedDevice) -> frozenset[Operation]:
        """Operations that this adapter can carry out on this device's model."""
        ...

    async def discover(self) -> list[ProvisionedDevice]:
        """Devices seen on the network that are not on the list (registered nowhere by this)."""
        ...


class DeviceNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A device spoke by itself.

    ``kind``: override, override_ended, opt_out, opt_in, fault, fault_cleared, plugged, unplugged, online,
    offline, unlisted (a device that is not on the list; ``device`` is its address).
    """

    device: str
    kind: str
    at_us: int
    data: dict[str, object] = {}


class Uplink(Protocol):
    """The link to the CCS. Lossy: what was sent may be lost, repeated or late; receipts decide.

    ``run`` keeps the connection up until cancelled: it connects, calls ``connected``, hands every
    frame to ``received``, calls ``lost`` when it breaks, and reconnects with full jitter.
    """

    async def run(
        self,
        connected: Callable[[], Awaitable[None]],
        received: Callable[[bytes], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        """Keep the link up; returns only by cancellation."""
        ...

    async def send(self, frame: bytes) -> None:
        """Send a frame; raise ``ConnectionError`` when there is no link. Returning proves nothing."""
        ...


# --- the store -------------------------------------------------------------------------------------

R = TypeVar("R")
Pair = tuple[str, str]


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """What the store held when the gateway started."""

    boot: int
    born_us: int
    time_us: int
    """The latest confirmed time that the store has seen."""
    mark: Mark
    provision_version: int
    devices: list[ProvisionedDevice]
    grants: dict[str, Held]
    trust: TrustDocument | None
    ended: dict[str, int]
    controls: list[Control]
    intents: list[Intent]
    opened: list[Request]
    """Requests without a result."""
    charges: list[Charge]
    acted: list[tuple[str, str, int]]
    """(party, device, time) of controls."""
    head: Head
    """The newest link of the journal."""


class Books(Protocol):
    """One transaction of the gateway's store. Nothing here commits; reads see the transaction's writes.

    All sequences are bounded by their callers.
    """

    def open(self, now_us: int) -> Restart:
        """Count the boot and return everything that the gateway keeps in memory."""
        ...

    def born(self, at_us: int) -> None:
        """Record when the store began, once."""
        ...

    def keep_time(self, now_us: int, mark: Mark | None = None) -> None:
        """Raise the latest confirmed time, and the high-water mark of frames where one is given."""
        ...

    def seen(
        self, ids: Collection[str], refs: Collection[Pair]
    ) -> tuple[dict[str, Request], dict[Pair, str]]:
        """Requests and tombstones by id; ids of requests by (party, the party's own key)."""
        ...

    def add_requests(self, requests: Sequence[Request], charges: Sequence[Charge]) -> None:
        """Insert into the inbox (a tombstone of the same id is replaced), and charge."""
        ...

    def finish(self, results: Mapping[str, Result]) -> None:
        """Store results and drop the intents of these requests."""
        ...

    def settle(self, charges: Sequence[Charge]) -> None:
        """Write smaller counts of charges."""
        ...

    def add_intents(self, intents: Sequence[Intent], acted: Sequence[tuple[str, str, int]]) -> None:
        """Store what is about to be done, and count it as (party, device, time)."""
        ...

    def put_controls(self, controls: Sequence[Control]) -> None:
        """Insert or replace running controls, one per device."""
        ...

    def drop_controls(self, devices: Sequence[str]) -> None:
        """Forget the controls of these devices."""
        ...

    def put_provision(self, version: int, devices: Sequence[ProvisionedDevice]) -> None:
        """Replace the list of devices."""
        ...

    def put_grants(self, grants: Mapping[str, Held]) -> None:
        """Insert or replace grants with their leases."""
        ...

    def put_trust(self, trust: TrustDocument) -> None:
        """Replace whom the gateway believes."""
        ...

    def end_grants(self, versions: Mapping[str, int]) -> None:
        """Record that these versions, and all before, were withdrawn."""
        ...

    def write_journal(
        self, rows: Sequence[JournalRow], at_us: int, *, heads: Sequence[Head] = (), checkpoint: str = ""
    ) -> Head | None:
        """Append to the journal under one link of its chain, which also covers what the CCS said of its own
        record. Return the head that this is once it has committed; ``None`` for nothing to record."""
        ...

    def put_out(self, messages: Sequence[Up]) -> list[Up]:
        """Append to the outbox; return the messages with their ``seq``."""
        ...

    def outbox_after(self, seq: int, limit: int) -> list[Up]:
        """Unacknowledged messages above ``seq``, in order."""
        ...

    def outbox_size(self) -> int:
        """How many messages wait for an acknowledgement."""
        ...

    def acknowledged(self, seqs: Collection[int]) -> None:
        """Remove from the outbox."""
        ...

    def add_samples(self, samples: Sequence[Sample]) -> None:
        """Store samples; one that is there already stays."""
        ...

    def samples(self, device: str, begin_us: int, end_us: int) -> list[Sample]:
        """Samples of a device in [begin, end), by time."""
        ...

    def prune(
        self,
        *,
        inbox_us: int,
        payload_us: int,
        journal_us: int,
        samples_us: int,
        counts_us: int,
        now_us: int,
    ) -> int:
        """Remove a slice of what is older than these times; return how many rows went."""
        ...


class Store(Protocol):
    """The gateway's own database. A step is a plain function over :class:`Books`, in one transaction."""

    async def write(self, step: Callable[[Books], R]) -> R:
        """Run a step and commit durably before returning."""
        ...

    async def read(self, step: Callable[[Books], R]) -> R:
        """Run a step that only reads."""
        ...


class Post(Protocol):
    """The way up: what was committed to the outbox goes to the CCS until it is acknowledged."""

    def ready(self, messages: Sequence[Up]) -> None:
        """These messages are committed and may go. Never blocks."""
        ...

    def again(self, ids: Collection[str]) -> set[str]:
        """Send at once what still waits for these requests; return the ids for which a result does."""
        ...

    def acknowledged(self, seqs: Collection[int]) -> None:
        """The CCS has these: they are sent no more."""
        ...


class Hands(Protocol):
    """The home's devices, whatever their protocol, each behind one lock and every call within one time-out.

    All calls raise :class:`DeviceFault`; one that did not end in time raises :class:`TimedOut`.
    """

    def hold(self, devices: Collection[str], klass: int) -> AbstractAsyncContextManager[None]:
        """Hold these devices' locks (taken in sorted order; the most urgent class waits shortest)."""
        ...

    def provision(self, devices: Sequence[ProvisionedDevice]) -> dict[str, str]:
        """Hand the list to the adapters; return device → why it cannot be reached."""
        ...

    def capabilities(self, device: ProvisionedDevice) -> frozenset[Operation]:
        """What may be asked of this device's model."""
        ...

    def was_told(self, device: str) -> bool:
        """Whether anything was told to the device since the start: what it holds may come of that."""
        ...

    async def read(self, device: ProvisionedDevice) -> Reading:
        """Read a device that the caller holds."""
        ...

    async def snapshot(self, device: ProvisionedDevice) -> dict[str, object]:
        """What a control may change, as a held device has it now."""
        ...

    async def command(self, device: ProvisionedDevice, command: HanCommand) -> Acted:
        """Carry out a command on a held device and read back."""
        ...

    async def follows(self, device: ProvisionedDevice, command: HanCommand) -> bool:
        """Whether a held device has what the command would set."""
        ...


class TimedOut(DeviceFault):
    """The device did not answer in time: whether it acted is unknown."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(Reason.DEVICE_UNAVAILABLE, f"no answer within {wait_s:g} s")


class TrustedClock(Clock, Protocol):
    """The gateway's time: stored maximum and monotonic time, bounded by what the CCS says (P23)."""

    @property
    def trusted(self) -> bool:
        """Whether the time may decide about third-party traffic."""
        ...

    @property
    def confirmed(self) -> bool:
        """Whether the CCS has said the time since the start: only such times are kept."""
        ...

    def hear(self, at_us: int) -> None:
        """The CCS's time arrived in a frame whose MAC verifies."""
        ...
