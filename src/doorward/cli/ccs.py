"""``doorward ccs``: run the CCS, as one process or as several that share their socket."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
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
    """Run until SIGTERM or Ctrl-C, then finish what runs."""
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
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(CcsApp(settings, random.SystemRandom(), worker=worker, listening=listening)))


async def _serve(ccs: CcsApp) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await ccs.start()
    calm()
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

    The socket stays open here, so that a worker that stops refuses nobody: others take its connections.
    """

    def __init__(self, settings: CcsSettings, config: Path | None) -> None:
        self._settings = settings
        self._config = config
        self._rng = random.SystemRandom()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Run until told to stop; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        await prepare(self._settings, self._rng)
        listening = listen(self._settings.host, self._settings.port)
        typer.echo(f"CCS: {self._settings.workers} workers on port {listening.getsockname()[1]}", err=True)
        with listening:
            while not self._stopping.is_set():
                self._start_missing(listening)
                await self._sleep(RESTART_WAIT_S)
            return await self._end()

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

    def _spawn(self, number: int, listening: socket.socket) -> "subprocess.Popen[bytes]":
        name = f"w-{number}-{self._rng.getrandbits(32):08x}"
        command = [sys.executable, "-m", "doorward.cli", "ccs", "--worker", name]
        command += ["--workers", str(self._settings.workers)]
        if self._config is not None:
            command += ["--config", str(self._config)]
        fd = listening.fileno()
        # A group of their own: Ctrl-C at a terminal reaches us, and we pass it on.
        return subprocess.Popen(
            command, pass_fds=[fd], env={**os.environ, FD: str(fd)}, start_new_session=True
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
        until_s = asyncio.get_running_loop().time() + self._settings.stop_wait_s_max + STOP_MARGIN_S
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
