"""Throw-away servers: a PostgreSQL cluster and a Mosquitto broker of our own, on loopback and free ports.

For tests, ``doorward tour`` and ``doorward bench``. Nothing that the system already runs is touched, and
every wait has a bound. A server may be killed and started again in the middle, on the same port and
data, to show what a crash does.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

PORT_MIN = 10_240
PORT_MAX = 32_767
"""Below what systems give to outgoing connections (Linux from 32768, macOS from 49152)."""
PORTS_APART = 211
START_WAIT_S_MAX = 30.0
STOP_WAIT_S_MAX = 15.0
POLL_WAIT_S = 0.02
RETRY_WAIT_S = 0.5
START_TRIES_MAX = 3
SOCKET_PATH_BYTES_MAX = 90
LOG_TAIL_BYTES = 2000
POSTGRESQL_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
MOSQUITTO_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")


class ServiceUnavailable(RuntimeError):
    """A server is not installed, or did not start in time; the message says which and what it wrote."""


_ports_tried = count()


def free_port() -> int:
    """Return a TCP port on loopback that was free a moment ago, and that nobody is given by the system.

    A port of the system's own choice may go to anybody's outgoing connection before it is listened on.
    Processes begin at different places, so that two at once rarely meet.
    """
    for tried in _ports_tried:
        port = PORT_MIN + (os.getpid() * PORTS_APART + tried) % (PORT_MAX - PORT_MIN)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
        if tried > PORT_MAX:
            break
    raise ServiceUnavailable("no TCP port is free")


def find_postgresql() -> Path:
    """Return the directory of ``initdb`` and ``postgres``: the newest that is installed."""
    found = [Path(place) for pattern in POSTGRESQL_PLACES for place in glob(pattern)]
    if path := shutil.which("postgres"):
        found.append(Path(path).resolve().parent)
    usable = [place for place in found if (place / "initdb").exists() and (place / "postgres").exists()]
    if not usable:
        raise ServiceUnavailable("PostgreSQL's server is not installed (apt-get install postgresql)")
    return max(usable, key=_version)


def find_mosquitto() -> Path:
    """Return the path of ``mosquitto``."""
    path = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), *MOSQUITTO_PLACES]))
    if path is None:
        raise ServiceUnavailable("Mosquitto is not installed (apt-get install mosquitto)")
    return Path(path)


def _version(binaries: Path) -> int:
    digits = "".join(letter if letter.isdigit() else " " for letter in str(binaries)).split()
    return int(digits[0]) if digits else 0


class Server:
    """A child process that listens on ``port``; :meth:`kill` and :meth:`start` again is a crash."""

    name = "server"
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self.log = directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id; raise :class:`ServiceUnavailable` while it does not run."""
        if self._process is None:
            raise ServiceUnavailable(f"{self.name} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start and return once it answers; raise :class:`ServiceUnavailable` after the bound.

        The first start looks for a free port (and tries again if somebody was quicker); later ones
        take the same port again.
        """
        for left in reversed(range(START_TRIES_MAX)):
            port = self.port or free_port()
            self._process = self._spawn(port)
            if self._wait(port):
                self.port = port
                return
            self.kill()
            if not left:
                raise ServiceUnavailable(f"{self.name} did not start; it wrote:\n{self._tail()}")
            time.sleep(RETRY_WAIT_S)

    def stop(self) -> None:
        """End it in good order, or by force after the bound; idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOP_WAIT_S_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would; idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_WAIT_S_MAX)
        self._process = None

    def _spawn(self, port: int) -> "subprocess.Popen[bytes]":
        raise NotImplementedError

    def _answers(self, port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    def _wait(self, port: int) -> bool:
        end = time.monotonic() + START_WAIT_S_MAX
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                return False
            if self._answers(port):
                return True
            time.sleep(POLL_WAIT_S)
        return False

    def _tail(self) -> str:
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if self.log.exists() else ""


class Postgresql(Server):
    """A PostgreSQL cluster in ``directory``, with fsync on. As root it runs as user ``postgres``.

    As root, ``directory`` must lie where that user may go (a fresh directory in /tmp does;
    pytest's ``tmp_path`` does not).
    """

    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast": rolls back what runs, and does not wait for clients
    user = "doorward"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._binaries = find_postgresql()
        self._data = directory / "data"
        self._password = os.urandom(16).hex()
        self._owner = _unprivileged_user()
        if self._owner is not None:
            os.chown(directory, self._owner.pw_uid, self._owner.pw_gid)
            _must_reach(directory)
        self._initdb()

    @property
    def dsn(self) -> str:
        """Address of the maintenance database, for the superuser of this cluster."""
        return f"postgresql://{self.user}:{self._password}@127.0.0.1:{self.port}/postgres"

    def _as_owner(self) -> dict[str, Any]:
        if self._owner is None:
            return {}
        return {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}

    def _initdb(self) -> None:
        secret = self.directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if self._owner is not None:
            os.chown(secret, self._owner.pw_uid, self._owner.pw_gid)
        command: list[str | Path] = [
            self._binaries / "initdb", "--pgdata", self._data, "--username", self.user,
            "--auth", "scram-sha-256", "--pwfile", secret, "--encoding", "UTF8", "--locale", "C", "--no-sync",
        ]  # fmt: skip
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            command, cwd=self.directory, capture_output=True, timeout=START_WAIT_S_MAX, check=False,
            **self._as_owner(),
        )  # fmt: skip
        secret.unlink()
        if done.returncode:
            raise ServiceUnavailable(f"initdb failed: {done.stderr.decode(errors='replace')}")

    def _spawn(self, port: int) -> "subprocess.Popen[bytes]":
        sockets = str(self.directory) if len(str(self.directory)) < SOCKET_PATH_BYTES_MAX else ""
        settings = {
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": sockets,
            "max_connections": "100",
            "fsync": "on",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *options],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                **self._as_owner(),
            )  # fmt: skip

    def _answers(self, port: int) -> bool:
        """Whether our postmaster has written "ready" as the eighth line of its pid file (as pg_ctl looks)."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


class Mosquitto(Server):
    """A Mosquitto broker on one loopback listener.

    ``config`` is what follows the listener line (``cafile``, ``require_certificate``, ``acl_file`` …);
    without one, everybody may do everything.
    """

    name = "mosquitto"

    def __init__(self, directory: Path, config: str = "allow_anonymous true") -> None:
        super().__init__(directory)
        self._binary = find_mosquitto()
        self._config = config

    def _spawn(self, port: int) -> "subprocess.Popen[bytes]":
        # As root it would change to a user who cannot read a private directory.
        user = "user root\n" if os.geteuid() == 0 else ""
        path = self.directory / "mosquitto.conf"
        path.write_text(f"{user}listener {port} 127.0.0.1\n{self._config}\n")
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self._binary, "-c", path],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Return whom PostgreSQL must run as (it refuses to be root), or ``None`` when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServiceUnavailable("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def _must_reach(directory: Path) -> None:
    for parent in directory.resolve().parents:
        if not parent.stat().st_mode & 0o001:
            raise ServiceUnavailable(f"{directory}: PostgreSQL's user may not pass {parent}")


ServerT = TypeVar("ServerT", bound=Server)


@contextmanager
def running(server: ServerT) -> Iterator[ServerT]:
    """Start a server and end it in any case."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def workplace(directory: Path | None) -> Iterator[Path]:
    """Yield ``directory``, or a fresh one in the system's temporary place that is removed afterwards."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
        return
    fresh = Path(tempfile.mkdtemp(prefix="doorward-"))
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def postgresql(directory: Path | None = None) -> Iterator[str]:
    """Run a throw-away cluster; yield the DSN of its superuser."""
    with workplace(directory) as place:
        server = Postgresql(place)
        with running(server):
            yield server.dsn


@contextmanager
def mosquitto(directory: Path | None = None, config: str = "allow_anonymous true") -> Iterator[int]:
    """Run a throw-away broker with ``config`` after its listener line; yield its port."""
    with workplace(directory) as place:
        server = Mosquitto(place, config)
        with running(server):
            yield server.port
