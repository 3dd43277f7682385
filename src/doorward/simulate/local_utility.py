"""A whole utility on this machine, as processes of its own: equipment, CCS, gateways. All on loopback.

For the demo, the tour and the system tests. Everything it starts it also ends, and everything lies in
one directory: the books, the gateways' stores, the devices' own files, and the logs.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.simulate.neighbourhood_plan import Home, Plan, equipment_of, utility_file_of
from doorward.simulate.services import Postgresql, Server, free_port, running, workplace
from doorward.wire.signatures import b64url, public_jwk

AUTHORITY = Path("ccs", "authority")
BOOKS = Path("ccs", "ccs.sqlite")
EMBEDDED = ("sqlite", "websocket")
PRODUCTION = ("postgresql", "mqtt")
ENGINES = (EMBEDDED, ("postgresql", "websocket"), PRODUCTION)
"""Pairs of store and link that a CCS runs with."""

UTILITY_FILE = "utility.toml"
PORTS_FILE = "ports.json"
OPERATOR_FILE = "operator.jwk"
CONSENT_CREDENTIALS = "ccs-consent"
SPREAD_S = 5
"""Campaigns begin at random within so many seconds here; at a utility within ten minutes (X04)."""
START_WAIT_S_MAX = 60.0
STOP_WAIT_S_MAX = 15.0
POLL_S = 0.05


class DidNotStart(RuntimeError):
    """A process ended or did not become ready in time; the message has the end of its log."""


@dataclass
class Process:
    """A child process with its log."""

    name: str
    child: "subprocess.Popen[bytes]"
    log: Path

    def require_alive(self) -> None:
        """Raise :class:`DidNotStart` if it has ended."""
        if self.child.poll() is not None:
            raise DidNotStart(f"{self.name} ended with {self.child.returncode}:\n{tail(self.log)}")

    def ask_to_stop(self) -> None:
        """Tell it to end, and do not wait."""
        if self.child.poll() is None:
            self.child.terminate()

    def stop(self) -> None:
        """End it, kindly first; idempotent."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(STOP_WAIT_S_MAX)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        if self.child.stdout is not None:
            self.child.stdout.close()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.child.kill()
        self.child.wait()


@dataclass(frozen=True)
class Under:
    """What a process runs under: words before its command (a tracer), and its environment besides."""

    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Ports:
    """Where things listen."""

    api: int = field(default_factory=free_port)
    link: int = field(default_factory=free_port)
    enrol: int = field(default_factory=free_port)
    consent: int = field(default_factory=free_port)
    modbus: dict[str, int] = field(default_factory=dict)
    ocpp: dict[str, int] = field(default_factory=dict)


def _ports(file: Path, plan: Plan) -> Ports:
    """Return the ports of an earlier start in the same place, where its gateways look for the CCS; or free ones."""
    if file.exists():
        return Ports(**json.loads(file.read_text(encoding="utf-8")))
    return Ports(
        modbus={home.gateway: free_port() for home in plan.homes},
        ocpp={home.gateway: free_port() for home in plan.homes},
    )


class LocalUtility:
    """Starts and stops the processes of a :class:`~doorward.simulate.neighbourhood_plan.Plan`.

    ``settings`` are extra settings of the CCS (``DOORWARD_CCS_…`` without the prefix), ``gateway_settings``
    of the gateways (``DOORWARD_SPG_…``). ``engines`` names store and link; a database and a broker of our
    own are started where they need one. ``workers`` are the CCS's processes (PostgreSQL and MQTT).
    ``apart``: the consent authority is a process of its own, as in production, and its key not the CCS's.
    """

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        settings: dict[str, Any] | None = None,
        *,
        engines: tuple[str, str] = EMBEDDED,
        workers: int = 1,
        gateway_settings: dict[str, Any] | None = None,
        apart: bool = False,
    ) -> None:
        if engines not in ENGINES:
            raise ValueError(f"engines: {','.join(engines)} is none of {' '.join(map(','.join, ENGINES))}")
        self.directory = directory
        self.plan = plan
        self.engines = engines
        self.ports = _ports(directory / PORTS_FILE, plan)
        self._settings = dict(settings or {})
        if workers > 1:
            self._settings["workers"] = workers
        self._gateway_settings = dict(gateway_settings or {})
        self.apart = apart
        self._services = ExitStack()
        self.processes: dict[str, Process] = {}
        self.servers: dict[str, Server] = {}
        """``database`` and ``broker``, where the engines need them."""
        self.under: dict[str, Under] = {}
        """Process → what it runs under when it is started next."""
        self.control_url = ""

    @property
    def workers(self) -> int:
        """How many processes the CCS consists of."""
        return int(self._settings.get("workers", 1))

    @property
    def url(self) -> str:
        """Where third parties reach the CCS."""
        return f"http://127.0.0.1:{self.ports.api}"

    def secret(self, party: str) -> str:
        """The client secret of a third party."""
        return (self.directory / "secrets" / party).read_text(encoding="utf-8").strip()

    def actuations(self, device: str) -> list[dict[str, Any]]:
        """What a device really did: the lines of its own file."""
        file = self.directory / "devices" / f"{device}.jsonl"
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    def device_state(self, device: str) -> dict[str, Any]:
        """What a device itself says of itself, past gateway and CCS: ``power_w``, ``energy_wh``, ``moods``."""
        with urllib.request.urlopen(f"{self.control_url}/devices", timeout=5) as answer:  # noqa: S310
            state: dict[str, Any] = json.load(answer)[device]
            return state

    def gateway_log(self, gateway: str) -> list[dict[str, Any]]:
        """The gateway's own journal, as ``doorward spg log --json`` prints it: oldest first."""
        place = str(self.directory / "gateways" / gateway)
        return [
            json.loads(line) for line in self.command("spg", "log", "--dir", place, "--json").splitlines()
        ]

    @property
    def authority(self) -> Path:
        """Where the utility's certificate authority lies."""
        return self.directory / AUTHORITY

    @property
    def database(self) -> str:
        """Where the CCS's books are, as a URL."""
        return str(self._settings.get("database") or f"sqlite:///{self.directory / BOOKS}")

    @property
    def link_url(self) -> str:
        """Where gateways meet the CCS: its own link, or the broker."""
        return str(self._settings.get("mqtt_url") or f"wss://127.0.0.1:{self.ports.link}")

    def start(self) -> None:
        """Start everything and wait until it is ready; raise :class:`DidNotStart`.

        What does not need the others starts beside them: equipment, the CCS, and the utility's data.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / PORTS_FILE).write_text(json.dumps(asdict(self.ports)))
        equipment = self.start_equipment()
        self.start_services()
        if self.apart:
            self.start_consent()
        ccs = self.start_ccs()
        self.apply()
        self.wait_ready(ccs)
        for home in self.plan.homes:
            self.start_gateway(home)
        self._wait_equipment(equipment)

    def stop(self) -> None:
        """End everything that was started, all at once; what they need goes last. Idempotent."""
        for process in self.processes.values():
            process.ask_to_stop()
        for process in reversed(list(self.processes.values())):
            process.stop()
        self.processes.clear()
        self._services.close()

    # ---- one by one ---------------------------------------------------------------------------------

    def start_services(self) -> None:
        """Start the database and the broker that the engines need, in places that end with us."""
        store, link = self.engines
        if store == "postgresql" and "database" not in self._settings:
            place = self._services.enter_context(workplace(None))
            database = self._services.enter_context(running(Postgresql(place)))
            self.servers["database"] = database
            self._settings["database"] = database.dsn
        if link == "mqtt" and "mqtt_url" not in self._settings:
            from doorward.simulate.local_engines import broker  # the embedded pair starts without its drivers

            place = self._services.enter_context(workplace(None))
            made = broker(place, self.authority, self.workers)
            self.servers["broker"] = self._services.enter_context(running(made))
            self._settings |= {"link": "mqtt", "mqtt_url": f"mqtts://127.0.0.1:{made.port}"}

    @property
    def consent_url(self) -> str:
        """Where the consent authority is, when it is a process of its own."""
        return f"https://127.0.0.1:{self.ports.consent}"

    def start_consent(self) -> Process:
        """Start the consent authority; an operator's key is made, and what the CCS needs to be let in."""
        self.consent.mkdir(parents=True, exist_ok=True)
        if not (self.directory / OPERATOR_FILE).exists():
            key = _made_key(self.directory / OPERATOR_FILE, "operator")
            (self.consent / "operators.jwks").write_text(json.dumps({"keys": [key]}), encoding="utf-8")
        place, credentials = str(self.consent), self.directory / CONSENT_CREDENTIALS
        self.command("consent-authority", "--dir", place, "credentials", str(credentials))
        self._settings |= {"consent_url": self.consent_url, "consent_credentials": str(credentials)}
        arguments = ["-m", "doorward.cli", "consent-authority", "--dir", place]
        process = self._spawn("consent", [*arguments, "--port", str(self.ports.consent)])
        end_s = time.monotonic() + START_WAIT_S_MAX
        while time.monotonic() < end_s:
            process.require_alive()
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.ports.consent), 1):
                return process
            time.sleep(POLL_S)
        raise DidNotStart(f"consent was not ready within {START_WAIT_S_MAX:.0f} s:\n{tail(process.log)}")

    @property
    def consent(self) -> Path:
        """The consent authority's own directory, when it is a process of its own."""
        return self.directory / "consent"

    def command_key(self, party: str) -> dict[str, str]:
        """The private key (JWK) with which a company signs its controls."""
        found: dict[str, str] = json.loads(
            (self.directory / "secrets" / f"{party}.jwk").read_text(encoding="utf-8")
        )
        return found

    def start_equipment(self) -> Process:
        """Start the homes' equipment, at the addresses of :meth:`addresses`."""
        (self.directory / "devices").mkdir(exist_ok=True)
        file = self.directory / "equipment.json"
        configuration = equipment_of(
            self.plan, self.directory / "devices", self.ports.ocpp, self.ports.modbus
        )
        file.write_text(json.dumps(configuration))
        return self._spawn(
            "equipment", ["-m", "doorward.simulate.equipment", "--config", str(file)], out=subprocess.PIPE
        )

    def _wait_equipment(self, process: Process) -> None:
        assert process.child.stdout is not None
        line = process.child.stdout.readline()
        if not line:
            process.child.wait(STOP_WAIT_S_MAX)
            process.require_alive()
        self.control_url = json.loads(line)["control"]

    def apply(self) -> None:
        """Write the utility's file and apply it."""
        (self.directory / "secrets").mkdir(mode=0o700, exist_ok=True)
        for party in self.plan.parties:
            file = self.directory / "secrets" / party.id
            if not file.exists():
                file.write_text(os.urandom(24).hex(), encoding="utf-8")
                file.chmod(0o600)
            if party.signs and not (self.directory / "secrets" / f"{party.id}.jwk").exists():
                key = _made_key(self.directory / "secrets" / f"{party.id}.jwk", party.id)
                (self.directory / "keys").mkdir(exist_ok=True)
                keys = json.dumps({"keys": [key]})
                (self.directory / "keys" / f"{party.id}.jwks").write_text(keys, encoding="utf-8")
        (self.directory / "codes").mkdir(mode=0o700, exist_ok=True)
        file = self.directory / UTILITY_FILE
        file.write_text(utility_file_of(self.plan, self.ports.modbus), encoding="utf-8")
        self.command("apply", str(file), *self.apply_options())

    def apply_options(self) -> list[str]:
        """The options with which ``doorward apply`` finds this utility's books and authorities."""
        options = ["--dir", str(self.directory / "ccs")]
        if database := self._settings.get("database"):
            options += ["--database", str(database)]
        if self.apart:
            options += ["--consent-url", self.consent_url]
            options += ["--consent-credentials", str(self.directory / CONSENT_CREDENTIALS)]
            options += ["--operator-key", str(self.directory / OPERATOR_FILE)]
        return options

    def start_ccs(self) -> Process:
        """Start the CCS; it is ready when ``/readyz`` says so."""
        settings = {
            "data_dir": str(self.directory / "ccs"),
            "port": self.ports.api,
            "link_port": self.ports.link,
            "enrol_port": self.ports.enrol,
            "log_json": False,
            "webhook_allow_networks": '["127.0.0.0/8"]',
            "campaign_spread_s": SPREAD_S,
            **self._settings,
        }
        environment = {f"DOORWARD_CCS_{name.upper()}": str(value) for name, value in settings.items()}
        return self._spawn("ccs", ["-m", "doorward.cli", "ccs"], environment)

    def start_gateway(self, home: Home) -> Process:
        """Start a home's gateway; the first time it enrols."""
        directory = self.directory / "gateways" / home.gateway
        environment = {
            "DOORWARD_SPG_OCPP_PORT": str(self.ports.ocpp[home.gateway]),
            "DOORWARD_SPG_PER_HOUR": str(self._settings.get("per_hour", 24)),
            "DOORWARD_SPG_PER_DAY": str(self._settings.get("per_day", 576)),
            "DOORWARD_SPG_SAMPLE_INTERVAL_S": "10",
            "DOORWARD_SPG_END_SPREAD_S": "0",
            "DOORWARD_SPG_CAMPAIGN_SPREAD_S": str(SPREAD_S),
            **{f"DOORWARD_SPG_{name.upper()}": str(value) for name, value in self._gateway_settings.items()},
        }
        code = (self.directory / "codes" / home.gateway).read_text(encoding="utf-8").strip()
        arguments = ["-m", "doorward.cli", "spg", "--dir", str(directory), "--enrol", code]
        arguments += ["--ccs", f"https://127.0.0.1:{self.ports.enrol}"]
        return self._spawn(home.gateway, arguments, environment)

    def start_manager(self, party: str, target_w: float, pause_s: float) -> Process:
        """Start the sample energy manager as a third party."""
        arguments = ["-m", "doorward.simulate.energy_manager", "--ccs", self.url, "--client-id", party]
        arguments += ["--secret-file", str(self.directory / "secrets" / party)]
        arguments += ["--target-w", str(target_w), "--pause-s", str(pause_s)]
        key = self.directory / "secrets" / f"{party}.jwk"
        if key.exists():
            arguments += ["--command-key", str(key)]
        return self._spawn("energy_manager", arguments)

    def require_alive(self) -> None:
        """Raise :class:`DidNotStart` if any of the processes has ended."""
        for process in self.processes.values():
            process.require_alive()

    def command(self, *arguments: str) -> str:
        """Run a ``doorward`` command to its end; return what it printed or raise :class:`DidNotStart`."""
        done = subprocess.run(
            [sys.executable, "-m", "doorward.cli", *arguments],
            capture_output=True,
            timeout=START_WAIT_S_MAX,
            check=False,
        )
        if done.returncode:
            raise DidNotStart(f"doorward {arguments[0]}: {done.stderr.decode()}")
        return done.stdout.decode()

    def resident(self, device: str, action: str) -> None:
        """Somebody at home does something to a device (``override``, ``fault``, ``hang``, ``clear`` …)."""
        request = urllib.request.Request(f"{self.control_url}/devices/{device}/{action}", method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310
            pass

    def _spawn(
        self,
        name: str,
        arguments: list[str],
        environment: dict[str, str] | None = None,
        out: int | None = None,
    ) -> Process:
        log = self.directory / f"{name}.log"
        under = self.under.get(name, Under())
        with log.open("ab") as opened:
            child = subprocess.Popen(
                [*under.command, sys.executable, *arguments],
                stdout=out or opened,
                stderr=opened,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {}), **under.environment},
                start_new_session=True,
            )
        self.processes[name] = Process(name, child, log)
        return self.processes[name]

    def wait_ready(self, process: Process) -> None:
        """Wait until the CCS says that it is ready; raise :class:`DidNotStart`."""
        end_s = time.monotonic() + START_WAIT_S_MAX
        while time.monotonic() < end_s:
            process.require_alive()
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):  # noqa: S310
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(POLL_S)
        raise DidNotStart(
            f"{process.name} was not ready within {START_WAIT_S_MAX:.0f} s:\n{tail(process.log)}"
        )


def _made_key(path: Path, kid: str) -> dict[str, str]:
    """Make an Ed25519 key, keep it in a file as a JWK, and return its public part."""
    key = Ed25519PrivateKey.generate()
    public = {**public_jwk(key.public_key()), "kid": kid}
    path.write_text(json.dumps({**public, "d": b64url(key.private_bytes_raw())}), encoding="utf-8")
    path.chmod(0o600)
    return public


def tail(log: Path, bytes_max: int = 2000) -> str:
    """Return the end of a log."""
    return log.read_bytes()[-bytes_max:].decode(errors="replace")
