"""``doorward ccs``: run the CCS, as one process or as several that share their socket."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from doorward.ccs.app import CcsApp, prepare
from doorward.ccs.settings import CcsSettings, read_settings
from doorward.cli.logs import set_up_logs
from doorward.kit.collector import calm
from doorward.kit.serving import listen

app = typer.Typer(help="Run the utility's Customer Communication System.")

FD = "DOORWARD_CCS_LISTENING_FD"
"""Set by the master for its workers: the number of the inherited socket."""
LINE = "DOORWARD_CCS_MASTER_FD"
"""Set by the master for each worker: its end of the line to the master. The worker says there that it is
ready, and stops when the line is cut: nobody would start it again, or tell it to end."""
READY = b"ready"
READY_WAIT_S_MAX = 60.0
LOOK_S = 0.05
RESTART_WAIT_S = 1.0
STOP_MARGIN_S = 10.0

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings as TOML.", dir_okay=False, exists=True)
]


@app.callback(invoke_without_command=True)
def ccs(
    config: Config = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes (PostgreSQL and MQTT).")] = None,
    worker: Annotated[str, typer.Option("--worker", hidden=True)] = "",
) -> None:
    """Run until SIGTERM or Ctrl-C, then finish what runs. SIGHUP to several: replace them one by one."""
    settings = _settings(config, workers)
    set_up_logs(settings.log_level, settings.log_json)
    try:
        if settings.workers > 1 and not worker:
            raise typer.Exit(asyncio.run(Master(settings, config).run()))
        run_worker(settings, worker)
    except OSError as error:
        _fail(f"the CCS cannot start: {error}")


# ---- one process ----------------------------------------------------------------------------------------


def run_worker(settings: CcsSettings, worker: str = "") -> None:
    """Run one worker until it is told to stop; raises what keeps it from running."""
    inherited = os.environ.get(FD)
    listening = socket.socket(fileno=int(inherited)) if inherited and worker else None
    number = os.environ.get(LINE)
    line = socket.socket(fileno=int(number)) if number and worker else None
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(CcsApp(settings, random.SystemRandom(), worker=worker, listening=listening), line))


async def _serve(ccs: CcsApp, line: socket.socket | None) -> None:
    stopped = asyncio.Event()
    if line is not None:
        asyncio.get_running_loop().add_reader(line, stopped.set)  # the master never says anything: it is gone
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await ccs.start()
    calm()
    if line is not None:
        line.send(READY)
    typer.echo(f"CCS: API {ccs.url}, description {ccs.url}/docs, gateways enrol at {ccs.enrol_url}", err=True)
    ending, failing = asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(ccs.failed())
    try:
        await asyncio.wait((ending, failing), return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            failing.result()
    finally:
        ending.cancel()
        failing.cancel()
        await ccs.stop()


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.Loop


# ---- several --------------------------------------------------------------------------------------------


class Master:
    """Starts the workers over one listening socket, starts again whichever dies, and passes on the end.

    The socket stays open here, so that a worker that stops refuses nobody: others take its connections. On
    SIGHUP the workers are replaced one by one, each once the one before is ready (N02): for a new version of
    Doorward, for other settings, for new keys.
    """

    def __init__(self, settings: CcsSettings, config: Path | None) -> None:
        self._settings = settings
        self._config = config
        self._rng = random.SystemRandom()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._lines: dict[int, socket.socket] = {}
        self._stopping = asyncio.Event()
        self._replacing = False

    async def run(self) -> int:
        """Run until told to stop; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._replace_soon)
        await prepare(self._settings, self._rng)
        listening = listen(self._settings.host, self._settings.port)
        typer.echo(f"CCS: {self._settings.workers} workers on port {listening.getsockname()[1]}", err=True)
        with listening:
            while not self._stopping.is_set():
                self._start_missing(listening)
                if self._replacing:
                    self._replacing = False
                    await self._replace_all(listening)
                await self._sleep(RESTART_WAIT_S)
            return await self._end()

    def _replace_soon(self) -> None:
        self._replacing = True

    def _start_missing(self, listening: socket.socket) -> None:
        for number in range(1, self._settings.workers + 1):
            child = self._children.get(number)
            if child is not None and child.poll() is None:
                continue
            if child is not None:
                typer.echo(
                    f"CCS: worker {number} ended with {child.returncode}; it is started again", err=True
                )
            self._children[number] = self._spawn(number, listening)

    async def _replace_all(self, listening: socket.socket) -> None:
        """Replace the workers one by one; stop at the first that does not come up, while others serve."""
        for number, child in sorted(self._children.items()):
            child.terminate()
            if not await self._until(lambda child=child: child.poll() is not None, self._stop_wait_s_max):  # type: ignore[misc]
                child.kill()
            if self._stopping.is_set():
                return
            self._children[number] = new = self._spawn(number, listening)
            if (
                not await self._until(
                    lambda number=number, new=new: self._is_ready(number) or new.poll() is not None,  # type: ignore[misc]
                    READY_WAIT_S_MAX,
                )
                or new.poll() is not None
            ):
                typer.echo(f"CCS: worker {number} did not come up; the others are not replaced", err=True)
                return
            typer.echo(f"CCS: worker {number} was replaced", err=True)

    @property
    def _stop_wait_s_max(self) -> float:
        return self._settings.stop_wait_s_max + STOP_MARGIN_S

    async def _until(self, look: Callable[[], bool], wait_s_max: float) -> bool:
        """Whether ``look`` came true in time, and before we are told to stop."""
        until_s = asyncio.get_running_loop().time() + wait_s_max
        while not look():
            if asyncio.get_running_loop().time() > until_s or self._stopping.is_set():
                return look()
            await self._sleep(LOOK_S)
        return True

    def _is_ready(self, number: int) -> bool:
        """Whether a worker has said that it serves."""
        try:
            return bool(self._lines[number].recv(len(READY), socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def _spawn(self, number: int, listening: socket.socket) -> "subprocess.Popen[bytes]":
        name = f"w-{number}-{self._rng.getrandbits(32):08x}"
        command = [sys.executable, "-m", "doorward.cli", "ccs", "--worker", name]
        command += ["--workers", str(self._settings.workers)]
        if self._config is not None:
            command += ["--config", str(self._config)]
        if number in self._lines:
            self._lines[number].close()
        self._lines[number], theirs = socket.socketpair()
        fds = {FD: listening.fileno(), LINE: theirs.fileno()}
        with theirs:
            # A group of their own: Ctrl-C at a terminal reaches us, and we pass it on.
            return subprocess.Popen(
                command,
                pass_fds=list(fds.values()),
                env={**os.environ, **{name: str(fd) for name, fd in fds.items()}},
                start_new_session=True,
            )

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _end(self) -> int:
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        until_s = asyncio.get_running_loop().time() + self._stop_wait_s_max
        while any(child.poll() is None for child in self._children.values()):
            if asyncio.get_running_loop().time() > until_s:
                for child in self._children.values():
                    child.kill()
                return 1
            await asyncio.sleep(0.05)
        return 0


# ---- settings -------------------------------------------------------------------------------------------


def _settings(config: Path | None, workers: int | None) -> CcsSettings:
    over = {} if workers is None else {"workers": workers}
    try:
        return read_settings(config, **over)
    except ValidationError as error:
        _fail(
            "\n".join(
                f"setting {'.'.join(map(str, each['loc'])) or '(together)'}: {each['msg']}"
                for each in error.errors()
            )
        )
    except (ValueError, OSError) as error:
        _fail(f"{config}: {error}")


def _fail(said: str) -> NoReturn:
    typer.echo(said, err=True)
    raise typer.Exit(2)
