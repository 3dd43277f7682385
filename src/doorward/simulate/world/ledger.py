"""What the world itself sees while it goes on: every commit, frame, act, and change of access.

Nothing here is told by the code under test; a breach is noted where it happens.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import msgspec

from doorward.simulate.world import town
from doorward.simulate.world.charges import Charges
from doorward.simulate.world.devices import Device
from doorward.simulate.world.disk import GatewayDisk
from doorward.simulate.world.loop import Process
from doorward.simulate.world.plan import Fault
from doorward.spg.ports import HanCommand
from doorward.wire.codec import decode_down, decode_up
from doorward.wire.messages import Ack, Applied, Command, Receipt, Result, Up
from doorward.wire.vocabulary import Operation

FINAL = frozenset({"DONE", "FAILED", "REFUSED", "EXPIRED", "CANCELLED", "UNCONFIRMED"})
OPEN = frozenset({"ACCEPTED", "QUARANTINED", "QUEUED", "SENT", "AT_GATEWAY"})
BACK = frozenset({("SENT", "QUEUED")})
"""The one step back: the gateway proves that it never had what was sent."""
HARMLESS = frozenset({Fault.ACCESS, Fault.RESIDENTS, Fault.CANCELS, Fault.ENDPOINTS, Fault.DEVICES})
"""Troubles that keep no gateway from being reached."""
REVOKED_US = 60 * town.US
"""After so long a withdrawal has arrived at a gateway that can be reached (P13)."""
RELEASES = "SELECT 1 FROM request WHERE id = ? AND operation = 'release'"
RANK = {"": 0, "QUARANTINED": 0, "ACCEPTED": 1, "QUEUED": 2, "SENT": 3, "AT_GATEWAY": 4}

_up = msgspec.json.Decoder(Up)


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that was not kept."""

    check: str
    detail: str
    at_s: float


@dataclass(frozen=True, slots=True)
class AccessChange:
    """A grant became this, at a true time."""

    at_us: int
    version: int
    live: bool
    desired: int = 0
    """The version of the gateway's desired state that says so."""


class Ledger:
    """The witness of one world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.breaches: list[Breach] = []
        self.trace: list[tuple[float, str, str]] | None = None
        self.charges = Charges()
        self.access: dict[tuple[str, str], list[AccessChange]] = {
            pair: [AccessChange(0, 1, True)] for pair in town.GRANTED
        }
        self.finals: dict[str, list[str]] = defaultdict(list)
        self.recorded: dict[str, int] = defaultdict(int)
        """Request → the highest attempt that was ever committed: a cancellation counts its own from 1 again."""
        self.frames = 0
        self.commits = 0

    def breach(self, check: str, detail: str) -> None:
        """Note what must not be."""
        self.breaches.append(Breach(check, detail, self.world.loop.time()))
        self.note("ORACLE", f"{check}: {detail}")

    def note(self, who: str, what: str) -> None:
        """Add a line to the trace, where one is kept."""
        if self.trace is not None:
            self.trace.append((self.world.loop.time(), who, what))

    # --- the CCS's disk ------------------------------------------------------------------------------------

    def ccs_wrote(self, process: Process, by: str) -> None:
        """A worker has committed a transaction."""
        self.commits += 1
        self.world.due.wrote(by)
        for (
            kind,
            id,
            before,
            after,
            attempt,
            sent,
            before_us,
            charge_us,
            party,
            place,
            device,
            data,
        ) in self.world.disks.ccs.moves():
            if kind == "request":
                self.note(process.name, f"request {id[-6:]} {before or 'new'} → {after}, attempt {attempt}")
                self.recorded[id] = max(attempt, self.recorded[id])
                self._moved(process, id, before, after, bool(sent))
                self._charged(id, before, after, attempt, before_us, charge_us, party, place, data)
            elif kind == "request.warning":
                self.note(process.name, f"warning about {id[-6:]}: {bytes(data).decode()}")
                self._warned(charge_us, party, place, device, data)
            elif kind == "handing over":
                self.note(process.name, f"hands over {id[-6:]}")
                self._handed_over(id, party, place)
            elif kind == "device.notice":
                self._charge_notice(charge_us, party, place)

    def _moved(self, process: Process, id: str, before: str, after: str, sent: bool) -> None:
        if before in FINAL and after != before:
            self.breach("final", f"{id} moved from {before} to {after}")
        if before in OPEN and after in OPEN and RANK[after] < RANK[before] and (before, after) not in BACK:
            self.breach("order", f"{id} moved back from {before} to {after}")
        if after in FINAL and before not in FINAL:
            self.finals[id].append(after)
        if before in ("SENT", "AT_GATEWAY") and after in ("EXPIRED", "CANCELLED", "REFUSED"):
            said = [disk.ask("SELECT state FROM inbox WHERE id = ?", id) for disk in self._gateways()]
            if [(after,)] not in said:
                self.breach("guessed", f"{id} was sent, and is {after} without the gateway's word")
        if sent:
            self._fenced(process, id)

    def _gateways(self) -> list[GatewayDisk]:
        return list(self.world.disks.gateways.values())

    def _handed_over(self, id: str, party: str, place: str) -> None:
        """S1.13: data leaves in a transaction in which the permission is live."""
        if not self.world.disks.ccs.ask("SELECT 1 FROM request WHERE id = ? AND taken_us <> 0", id):
            return
        live = "SELECT 1 FROM \"grant\" WHERE party = ? AND service_point = ? AND state = 'live'"
        if not self.world.disks.ccs.ask(live, party, place):
            self.breach("second authorisation", f"the answer to {id} left after the permission had ended")

    def _acknowledged(self, gateway: str, seqs: list[int]) -> None:
        """What a gateway may forget is in the books."""
        disk = self.world.disks.gateways[gateway]
        for seq in seqs:
            for (body,) in disk.ask("SELECT body FROM outbox WHERE seq = ?", seq):
                message = _up.decode(body)
                if isinstance(message, Result) and not self.world.disks.ccs.ask(
                    "SELECT 1 FROM request WHERE id = ? AND final_us <> 0", message.id
                ):
                    self.breach("write before send", f"the result of {message.id} was acknowledged unstored")

    def _fenced(self, process: Process, id: str) -> None:
        """Whoever marks a request as sent owns its partition at that moment."""
        ((holder,),) = self.world.disks.ccs.ask(
            "SELECT l.worker FROM request r JOIN lease l ON l.partition = r.partition WHERE r.id = ?",
            id,
        )
        if holder != process.name:
            self.breach("fence", f"{process.name} sent {id}, but {holder or 'nobody'} owns its partition")

    def _charged(
        self,
        id: str,
        before: str,
        after: str,
        attempt: int,
        before_us: int,
        charge_us: int,
        party: str,
        place: str,
        need: int,
    ) -> None:
        if not need:
            return
        if not before and self.world.disks.ccs.ask(RELEASES, id):
            self.breach("limit", f"{id} lets go, and was charged for it")
        sharers = self.sharers(place)
        wrong = self.charges.moved(
            id, before, after, attempt, before_us, charge_us, party, place, need, sharers
        )
        for detail in wrong:
            self.breach("limit", detail)

    def _warned(self, now_us: int, party: str, place: str, device: str, data: bytes) -> None:
        said = msgspec.json.decode(data)
        if said["reason"] != "limit-exceeded":
            return
        home = place or town.DEVICES[device][1]
        need = 1 if "notice" in said.get("detail", "") else 2
        wrong = self.charges.refused(now_us, party, home, need, self.sharers(home))
        if wrong:
            self.breach("limit", f"refused wrongly: {wrong}")

    def _charge_notice(self, now_us: int, party: str, place: str) -> None:
        self.charges.notice(now_us, party, place, self.sharers(place))

    def sharers(self, place: str) -> int:
        """How many third parties share a service point now, as the database has it."""
        ((count,),) = self.world.disks.ccs.ask(
            "SELECT count(DISTINCT party) FROM \"grant\" WHERE service_point = ? AND state = 'live'", place
        )
        return int(count)

    # --- the wires -----------------------------------------------------------------------------------------

    def saw_down(self, worker: str, gateway: str, frame: bytes) -> None:
        """A frame leaves the CCS: what it says stands on the disk already (P17)."""
        self.frames += 1
        if self.world.disks.ccs.is_writing():
            self.breach("write before send", f"{worker} sent a frame in the midst of a transaction")
        messages = decode_down(frame, gateway, town.link_key(gateway)).messages
        for message in messages:
            if self.trace is not None:
                self.note(worker, f"↓ {gateway} {_words(message)}")
            if isinstance(message, Ack):
                self._acknowledged(gateway, message.seqs)
            if isinstance(message, Command) and self.recorded[message.id] < message.attempt:
                self.breach("write before send", f"command {message.id} left before it was recorded")

    def saw_up(self, gateway: str, frame: bytes) -> None:
        """A frame leaves a gateway: what it says stands on its disk already (P17)."""
        self.frames += 1
        disk = self.world.disks.gateways[gateway]
        if disk.is_writing():
            self.breach("write before send", f"{gateway} sent a frame in the midst of a transaction")
        for message in decode_up(frame, gateway, town.link_key(gateway)).messages:
            if self.trace is not None:
                self.note(gateway, f"↑ {_words(message)}")
            if isinstance(message, Applied):
                self._applied(gateway, message.version)
            if isinstance(message, Result):
                rows = disk.ask("SELECT 1 FROM inbox WHERE id = ? AND state = ?", message.id, message.state)
                if not rows:
                    self.breach("write before send", f"result of {message.id} left before it was stored")
            elif isinstance(message, Receipt):
                rows = disk.ask("SELECT 1 FROM journal WHERE message = ? LIMIT 1", message.id)
                if not rows:
                    self.breach("write before send", f"receipt of {message.id} left before it was recorded")

    def _applied(self, gateway: str, version: int) -> None:
        """A gateway says that it holds a version: what ended with it has ended on its disk."""
        for (party, place), changes in self.access.items():
            last = changes[-1]
            if last.live or town.HOMES[place] != gateway or not 0 < last.desired <= version:
                continue
            held = self.world.disks.gateways[gateway].ask(
                "SELECT version, ended_version FROM permission WHERE id = ? AND document IS NOT NULL",
                f"grant-{party}-{place}",
            )
            if held and held[0][1] < held[0][0]:
                self.breach(
                    "write before send", f"{gateway} confirmed the end of {party} at {place} unstored"
                )

    # --- the devices ---------------------------------------------------------------------------------------

    def acted(self, device: Device, command: HanCommand, took: bool, late: bool) -> None:
        """A command arrives at a device: under an intent that is stored, and a grant that is live."""
        self.note(device.id, f"told to {command.operation} {command.body} ({command.id[-6:]}), took: {took}")
        if command.operation is Operation.RELEASE:
            return
        disk = self.world.disks.gateways[device.gateway]
        intent = disk.ask("SELECT 1 FROM intent WHERE id = ? AND device = ?", command.id, device.id)
        if late:  # it was told long before
            return
        if not intent:
            self.breach("intent", f"{device.id} was told {command.id} without a stored intent")
        self._authorised(device, command)

    def _authorised(self, device: Device, command: HanCommand) -> None:
        rows = self.world.disks.ccs.ask(
            'SELECT party, service_point, "grant", due_us, start_us FROM request WHERE id = ?', command.id
        )
        if not rows:
            self.breach("act", f"{device.id} was told {command.id}, which the CCS does not have")
            return
        party, place, grant, due_us, start_us = rows[0]
        held = self.world.disks.gateways[device.gateway].ask(
            "SELECT version, ended_version, lease_until_us FROM permission WHERE id = ? AND document IS NOT NULL",
            grant,
        )
        now_us = self.world.now_us()
        skew_us = self.world.skew_us(device.gateway)
        if not held or held[0][0] <= held[0][1]:
            self.breach("grant", f"{device.id} was told {command.id} without a live grant at the gateway")
        elif held[0][2] + skew_us <= now_us:
            self.breach("lease", f"{device.id} was told {command.id} after the grant's lease")
        changes = self.access.get((party, place), [])
        ended = bool(changes) and not changes[-1].live and now_us - changes[-1].at_us > REVOKED_US
        if ended and self.world.plan.faults <= HARMLESS:
            self.breach("revoked", f"{device.id} was told {command.id} a minute after access ended")
        if now_us > due_us + skew_us:
            late_s = (now_us - due_us) / town.US
            self.breach("deadline", f"{device.id} was told {command.id} {late_s:.1f} s after its deadline")
        if now_us < start_us - skew_us:
            early_s = (start_us - now_us) / town.US
            self.breach("early", f"{device.id} was told {command.id} {early_s:.1f} s before its start")

    # --- access --------------------------------------------------------------------------------------------

    def access_changed(self, pair: tuple[str, str], version: int, *, live: bool) -> None:
        """A change of access was committed."""
        self.note("access", f"{pair} version {version} {'live' if live else 'withdrawn'}")
        ((desired,),) = self.world.disks.ccs.ask(
            "SELECT desired_version FROM gateway WHERE id = ?", town.HOMES[pair[1]]
        )
        self.access.setdefault(pair, []).append(AccessChange(self.world.now_us(), version, live, desired))


def _words(message: object) -> str:
    """Return a message in one line."""
    name = type(message).__name__.lower()
    parts = []
    for field in ("id", "attempt", "step", "state", "reason", "outcome", "version", "grant", "seq", "seqs",
                  "ids", "unknown", "operation", "device", "detail"):  # fmt: skip
        value = getattr(message, field, None)
        if value not in (None, "", [], 0):
            parts.append(f"{field}={value[-6:] if field == 'id' else value}")
    return f"{name} {' '.join(parts)}"
