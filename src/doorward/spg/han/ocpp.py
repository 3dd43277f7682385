"""EV chargers over OCPP: the gateway is their central system, for 1.6-J and 2.0.1.

A device's ``address`` is the charger's identity; chargers connect to ``ws(s)://gateway:port/{identity}``.
How operations are carried out (chosen because each is absolute, can be repeated, and can be read back):

- ``limit``: a profile for the whole charger (ChargePointMaxProfile, ChargingStationMaxProfile) at our own
  stack level. It carries ``until`` as its end, so the charger lets go even when the gateway is gone, and
  an id made from the request's id. Followed: the composite schedule *and* the measured power are within it.
- ``program``: a daily recurring default profile of transactions. Followed: the composite schedule of the
  next 24 hours.
- ``turn_off``: ChangeAvailability to inoperative, and the end of a running transaction, for a charger would
  otherwise finish it first. Followed: the charger says Unavailable and draws nothing.
- ``turn_on``: ChangeAvailability to operative, and, when a car is there and nothing charges, the start of a
  transaction: a car that was stopped must not stay empty. Followed: operative, and charging if a car is there.
- ``release``: our two profiles are cleared; availability, and charging if it was, are as in the baseline.
"""

import asyncio
import logging
import math
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from doorward.kit.clock import US, Clock
from doorward.spg.han import ocpp_16, ocpp_201
from doorward.spg.han.device_model import NOTICE_PAIRS
from doorward.spg.han.ocpp_judgement import (
    POWER_W_MAX,
    RUNNING_W,
    above_limit,
    check_accepted,
    check_plausible,
    daily_rows,
    identity_of,
    is_charger,
    profile_id,
    proves,
    security_of,
    state_of,
    unreleased,
    watts_of,
)
from doorward.spg.han.ocpp_session import Profile, Said, Session
from doorward.spg.han.verdict import not_followed
from doorward.spg.ports import Acted, DeviceFault, DeviceNotice, HanCommand, Reading
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass, Operation

log = logging.getLogger(__name__)

ANSWER_S_MAX = 5.0
"""How long one answer of a charger may take."""
CALL_S_MAX = 25.0
SETTLE_S_MAX = 5.0
"""How long a charger may take to show that it follows."""
SETTLE_POLL_S = 0.2
FRESH_S_MAX = 120.0
"""How old values may be that a charger will not send on demand."""
MESSAGE_BYTES_MAX = 64 * 1024
NOTICES_MAX = 1000
REFUSED_MAX = 100
"""Refused identities that are remembered (for discovery, and to report each once a minute)."""
REFUSED_PAUSE_S = 60.0
CLOCK_SLACK_S = 300
"""How far before now a limit begins, for a charger whose clock is late."""
DAY_S = 86_400
STACK_LEVEL = 1

Notices = Callable[[DeviceNotice], Awaitable[None]]


class Charger(msgspec.Struct):
    """What the adapter keeps of a listed charger between its connections."""

    device: ProvisionedDevice
    session: Session | None = None
    flags: frozenset[str] = frozenset()
    fresh_s: float = -math.inf
    ours_w: float | None = None
    """The limit that was set last and not released."""


class OcppAdapter:
    """:class:`~doorward.spg.ports.HanAdapter` for EV chargers; listens at ``host:port`` (0: a free one).

    ``passwords`` (identity → password) asks those chargers for HTTP Basic authentication (security
    profile 1); ``tls`` makes the port a TLS one (profile 2; profile 3 when it asks for certificates).
    A charger that is not listed, or does not prove itself, is refused and reported as ``unlisted``.
    """

    protocol = "ocpp"

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        passwords: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        answer_s_max: float = ANSWER_S_MAX,
        settle_s_max: float = SETTLE_S_MAX,
    ) -> None:
        self.host = host
        self.port = port
        self.security = security_of(bool(passwords), tls)
        self._clock = clock
        self._rng = rng
        self._passwords = dict(passwords or {})
        self._tls = tls
        self._answer_s_max = answer_s_max
        self._settle_s_max = settle_s_max
        self._chargers: dict[str, Charger] = {}
        self._refused: dict[str, float] = {}
        self._queue: asyncio.Queue[DeviceNotice] = asyncio.Queue(NOTICES_MAX)
        self._server: Server | None = None
        self._teller: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------------

    async def start(self, notices: Notices) -> None:
        """Listen; ``port`` is the real one afterwards. Raises ``OSError`` when the port is taken."""
        self._server = await serve(
            self._serve,
            self.host,
            self.port,
            ssl=self._tls,
            subprotocols=[Subprotocol("ocpp2.0.1"), Subprotocol("ocpp1.6")],
            process_request=self._admit,
            max_size=MESSAGE_BYTES_MAX,
            server_header=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        self._teller = asyncio.get_running_loop().create_task(self._tell(notices))

    async def stop(self) -> None:
        """Close the port and all connections; idempotent."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        if self._teller is not None:
            self._teller.cancel()
            with suppress(asyncio.CancelledError):
                await self._teller
            self._teller = None

    def provision(self, devices: list[ProvisionedDevice]) -> None:
        """Replace the list; chargers that are no longer on it are disconnected."""
        before = self._chargers
        self._chargers = {}
        for device in devices:
            if device.protocol == self.protocol:
                known = before.get(device.address)
                same = known is not None and known.device == device
                self._chargers[device.address] = known if known and same else Charger(device)
        for identity, charger in before.items():
            if self._chargers.get(identity) is not charger and charger.session is not None:
                _close_soon(charger.session)

    def capabilities(self, device: ProvisionedDevice) -> frozenset[Operation]:
        """All operations of an EV charger; nothing for another class."""
        return CLASS_OPERATIONS[DeviceClass.EV_CHARGER] if is_charger(device) else frozenset()

    async def discover(self) -> list[ProvisionedDevice]:
        """Return the chargers that were refused because they are not listed."""
        return [
            ProvisionedDevice(
                id="",
                service_point="",
                device_class=DeviceClass.EV_CHARGER,
                protocol=self.protocol,
                model="",
                address=identity,
            )
            for identity in self._refused
            if identity not in self._chargers
        ]

    # --- chargers come and go ---------------------------------------------------------------------

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        identity = identity_of(request.path)
        if identity not in self._chargers:
            self._refuse(identity, "not listed")
            return connection.respond(404, "unknown charge point\n")
        password = self._passwords.get(identity)
        if password is not None and not proves(request, identity, password):
            self._refuse(identity, "wrong password")
            response = connection.respond(401, "who are you?\n")
            response.headers["WWW-Authenticate"] = 'Basic realm="charge points"'
            return response
        return None

    def _refuse(self, identity: str, why: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._refused.get(identity, -math.inf) < REFUSED_PAUSE_S:
            return
        self._refused.pop(identity, None)
        while len(self._refused) >= REFUSED_MAX:
            self._refused.pop(next(iter(self._refused)))
        self._refused[identity] = now_s
        self._say(identity, "unlisted", {"why": why})

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        charger = self._chargers.get(identity_of(connection.request.path))
        if charger is None:
            return
        session = self._session_of(charger, connection)
        # A charger that lost its link is back before the old connection is seen to be dead.
        if charger.session is not None:
            _close_soon(charger.session)
        else:
            self._say(charger.device.id, "online", {"version": session.version})
        charger.session = session
        try:
            await session.listen()
        except ConnectionClosed:
            pass
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            # What the library can not take apart: the charger speaks nonsense, and is sent away.
            await connection.close(1002, type(error).__name__)
        finally:
            if charger.session is session:
                charger.session = None
                self._say(charger.device.id, "offline", {})

    def _session_of(self, charger: Charger, connection: ServerConnection) -> Session:
        device = charger.device

        def accepts(serial: str) -> bool:
            if device.serial and serial != device.serial:
                self._refuse(device.address, f"serial '{serial}', listed is '{device.serial}'")
                return False
            return True

        def changed(said: Said) -> None:
            self._say_changes(charger, said)

        make = ocpp_201.session if connection.subprotocol == "ocpp2.0.1" else ocpp_16.session
        return make(device.address, connection, self._clock, self._rng, accepts, changed, self._answer_s_max)

    def _say_changes(self, charger: Charger, said: Said) -> None:
        charger.fresh_s = asyncio.get_running_loop().time()
        if charger.device.serial and charger.device.serial != said.serial:
            return  # not proved yet: what it says is not passed on
        begun, ended = said.flags - charger.flags, charger.flags - said.flags
        charger.flags = said.flags
        data: dict[str, object] = {"status": said.status}
        if said.fault:
            data["fault"] = said.fault
        for kind in [*sorted(begun), *(NOTICE_PAIRS[kind] for kind in sorted(ended))]:
            self._say(charger.device.id, kind, data)

    def _say(self, device: str, kind: str, data: dict[str, object]) -> None:
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(DeviceNotice(device=device, kind=kind, at_us=self._clock.now_us(), data=data))

    async def _tell(self, notices: Notices) -> None:
        while True:
            notice = await self._queue.get()
            try:
                await notices(notice)
            except Exception:
                # The gateway's own trouble with one notice must not end all others.
                log.exception("notice %s of %s was not taken", notice.kind, notice.device)

    # --- calls ------------------------------------------------------------------------------------

    async def read(self, device: ProvisionedDevice) -> Reading:
        """Ask the charger for its status and meter values, and return what it says."""
        async with self._charger(device) as (charger, session):
            return await self._read(charger, session)

    async def snapshot(self, device: ProvisionedDevice) -> dict[str, object]:
        """Return ``on`` (operative), ``charging`` and ``limit_w`` (by the composite schedule)."""
        async with self._charger(device) as (charger, session):
            reading = await self._read(charger, session)
            charging = session.said.transaction is not None
            return {"on": session.said.operative, "charging": charging, "limit_w": reading.values["limit_w"]}

    async def command(self, device: ProvisionedDevice, command: HanCommand) -> Acted:
        """Carry out a command and read back whether the charger follows it.

        A charger that somebody at home has overridden is left alone: not followed, ``customer-override``.
        """
        if command.operation is Operation.READ:
            return Acted(followed=True, reading=await self.read(device))
        async with self._charger(device) as (charger, session):
            reading = await self._read(charger, session)
            if reading.overridden:
                return not_followed(reading, "")
            await self._carry_out(charger, session, command)
            return await self._settle(charger, session, command)

    async def follows(self, device: ProvisionedDevice, command: HanCommand) -> bool:
        """Whether the charger now holds exactly what ``command`` would set; changes nothing."""
        async with self._charger(device) as (charger, session):
            reading = await self._read(charger, session)
            if command.operation is Operation.LIMIT:
                limit = reading.values["limit_w"]
                return isinstance(limit, float) and abs(limit - watts_of(command.body)) <= 1.0
            return not await self._unmet(charger, session, command, reading)

    @asynccontextmanager
    async def _charger(self, device: ProvisionedDevice) -> AsyncIterator[tuple[Charger, Session]]:
        charger = self._chargers.get(device.address)
        if charger is None or charger.device != device:
            raise DeviceFault(Reason.DEVICE_UNLISTED, f"{device.id} at {device.address} is not on the list")
        if not is_charger(device):
            raise DeviceFault(Reason.DEVICE_REFUSED, f"OCPP is for EV chargers, not {device.device_class}")
        if charger.session is None:
            raise DeviceFault(Reason.DEVICE_UNAVAILABLE, f"charger {device.address} is not connected")
        try:
            async with asyncio.timeout(CALL_S_MAX):
                await self._prove(device, charger.session)
                yield charger, charger.session
        except TimeoutError:
            detail = f"charger {device.address}: no answer in {CALL_S_MAX:g} s"
            raise DeviceFault(Reason.DEVICE_UNAVAILABLE, detail) from None

    async def _prove(self, device: ProvisionedDevice, session: Session) -> None:
        if not device.serial:
            return
        if not session.said.boots:
            await session.trigger("BootNotification")
            await session.until(lambda said: said.boots > 0, self._answer_s_max)
        if session.said.serial != device.serial:
            detail = f"charger {device.address} is serial '{session.said.serial}', listed '{device.serial}'"
            raise DeviceFault(Reason.DEVICE_UNLISTED, detail)

    async def _read(self, charger: Charger, session: Session) -> Reading:
        await self._refresh(charger, session)
        rows = await session.composite(60)
        return self._reading(charger.device, session.said, rows[0][1] if rows else None)

    async def _refresh(self, charger: Charger, session: Session) -> None:
        said = session.said
        statuses, meters = said.statuses, said.meters
        status_comes = await session.trigger("StatusNotification")
        meter_comes = await session.trigger("MeterValues")
        if not (status_comes and meter_comes):
            age_s = asyncio.get_running_loop().time() - charger.fresh_s
            if age_s > FRESH_S_MAX:
                raise DeviceFault(Reason.DEVICE_UNAVAILABLE, f"the last values are {age_s:.0f} s old")
        came = await session.until(
            lambda now: (
                (now.statuses > statuses or not status_comes) and (now.meters > meters or not meter_comes)
            ),
            self._answer_s_max,
        )
        if not came:
            raise DeviceFault(Reason.DEVICE_UNAVAILABLE, "the charger did not send the values asked for")

    def _reading(self, device: ProvisionedDevice, said: Said, limit_w: float | None) -> Reading:
        most = 1.2 * device.rated_w or POWER_W_MAX
        check_plausible("power", said.power_w, -most, most)
        check_plausible("energy", said.energy_wh, 0.0, 1e10)
        check_plausible("state of charge", said.soc_percent or 0.0, 0.0, 100.0)
        values: dict[str, float | str | bool | None] = {
            "on": said.operative,
            "plugged": said.plugged,
            "charging_state": said.charging_state or said.status,
            "limit_w": limit_w,
            "soc_percent": said.soc_percent,
        }
        if said.begun_wh is not None:
            values["session_energy_wh"] = max(0.0, said.energy_wh - said.begun_wh)
        if said.fault:
            values["fault"] = said.fault
        return Reading(
            device=device.id,
            at_us=self._clock.now_us(),
            state=state_of(device, said, limit_w),
            power_w=said.power_w,
            energy_wh=said.energy_wh,
            values=values,
            overridden=said.override or said.opt_out,
        )

    # --- commands ---------------------------------------------------------------------------------

    async def _carry_out(self, charger: Charger, session: Session, command: HanCommand) -> None:
        match command.operation:
            case Operation.LIMIT:
                watts = watts_of(command.body)
                check_accepted("SetChargingProfile", await session.set_profile(self._limit(command, watts)))
                charger.ours_w = watts
            case Operation.PROGRAM:
                check_accepted("SetChargingProfile", await session.set_profile(self._program(command)))
            case Operation.TURN_OFF:
                await self._turn_off(session)
            case Operation.TURN_ON:
                await self._turn_on(session, start=True)
            case Operation.RELEASE:
                await self._release(session, command.baseline or {})
            case _:
                raise DeviceFault(Reason.DEVICE_REFUSED, f"a charger has no {command.operation.value}")

    def _limit(self, command: HanCommand, watts: float) -> Profile:
        return Profile(
            id=profile_id(command.id, 1),
            whole_station=True,
            stack_level=STACK_LEVEL,
            start_us=self._clock.now_us() - CLOCK_SLACK_S * US,
            periods=[(0, watts)],
            until_us=command.until_us,
        )

    def _program(self, command: HanCommand) -> Profile:
        now_us = self._clock.now_us()
        rows = daily_rows(command.body)
        # What holds last holds over midnight, until the first row of the day.
        periods = rows if rows[0][0] == 0 else [(0, rows[-1][1]), *rows]
        return Profile(
            id=profile_id(command.id, 2),
            whole_station=False,
            stack_level=STACK_LEVEL,
            start_us=now_us - now_us % (DAY_S * US),
            periods=periods,
            daily=True,
            until_us=command.until_us,
        )

    async def _turn_off(self, session: Session) -> None:
        status = await session.set_operative(False)
        if status not in ("Accepted", "Scheduled"):
            raise DeviceFault(Reason.DEVICE_REFUSED, f"ChangeAvailability: {status}")
        if status == "Scheduled":
            await self._learn_transaction(session)
            if session.said.transaction is not None:
                check_accepted("stop", await session.stop_charging(session.said.transaction))

    async def _learn_transaction(self, session: Session) -> None:
        """After a restart of the gateway it does not know the transaction that runs: ask."""
        if session.said.transaction is None and await session.trigger("TransactionEvent"):
            await session.until(lambda said: said.transaction is not None, self._answer_s_max)

    async def _turn_on(self, session: Session, *, start: bool) -> None:
        check_accepted("ChangeAvailability", await session.set_operative(True))
        statuses = session.said.statuses
        if await session.trigger("StatusNotification"):
            await session.until(lambda said: said.statuses > statuses, self._answer_s_max)
        if not (start and session.said.plugged):
            return
        await self._learn_transaction(session)
        if session.said.transaction is None:
            check_accepted("start", await session.start_charging())

    async def _release(self, session: Session, baseline: Mapping[str, object]) -> None:
        for whole_station in (True, False):
            status = await session.clear_profile(whole_station, STACK_LEVEL)
            if status not in ("Accepted", "Unknown"):  # Unknown: there was nothing to clear
                raise DeviceFault(Reason.DEVICE_REFUSED, f"ClearChargingProfile: {status}")
        if baseline.get("on", True):
            await self._turn_on(session, start=bool(baseline.get("charging")))
        else:
            await self._turn_off(session)

    async def _settle(self, charger: Charger, session: Session, command: HanCommand) -> Acted:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settle_s_max
        while True:
            reading = await self._read(charger, session)
            unmet = await self._unmet(charger, session, command, reading)
            if reading.overridden or (unmet and loop.time() >= end):
                return not_followed(reading, unmet)
            if not unmet:
                if command.operation is Operation.RELEASE:
                    charger.ours_w = None
                return Acted(followed=True, reading=reading)
            await asyncio.sleep(SETTLE_POLL_S)

    async def _unmet(self, charger: Charger, session: Session, command: HanCommand, reading: Reading) -> str:
        """Say in words what is not as ``command`` wants it; empty when it is followed."""
        said = session.said
        match command.operation:
            case Operation.LIMIT:
                return above_limit(watts_of(command.body), reading)
            case Operation.PROGRAM:
                return self._unmet_program(await session.composite(DAY_S), command)
            case Operation.TURN_OFF:
                if said.operative or reading.power_w > RUNNING_W:
                    return f"status is {said.status}, power {reading.power_w:g} W"
            case Operation.TURN_ON:
                if not said.operative or (said.plugged and said.transaction is None):
                    return f"status is {said.status}, and no transaction runs"
            case Operation.RELEASE:
                return unreleased(charger.ours_w, command.baseline or {}, said, reading)
            case _:
                return f"a charger has no {command.operation.value}"
        return ""

    def _unmet_program(self, schedule: list[tuple[int, float]], command: HanCommand) -> str:
        second = self._clock.now_us() // US % DAY_S
        for start, watts in daily_rows(command.body):
            at_s = (start - second + 30) % DAY_S  # half a minute into the interval
            begun = [limit for row, limit in schedule if row <= at_s]
            if not begun or begun[-1] > watts + 1.0:
                have = f"{begun[-1]:g} W" if begun else "nothing"
                return f"the schedule says {have} from {start // 60} min of the day on, asked for {watts:g} W"
        return ""


_closing: set[asyncio.Task[None]] = set()
"""Holds tasks that close connections, so that they are not lost half way."""


def _close_soon(session: Session) -> None:
    task = asyncio.get_running_loop().create_task(session.connection.close(1000, "replaced"))
    _closing.add(task)
    task.add_done_callback(_closing.discard)
