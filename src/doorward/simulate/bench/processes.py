"""Processes that the bench starts: talked to in lines of JSON, measured by the kernel, ended in any case."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

STOP_WAIT_S_MAX = 10.0
LINE_BYTES_MAX = 8 * 1024 * 1024
LOG_TAIL_BYTES = 3_000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KIB = 1024

T = TypeVar("T")


class ProcessFailed(RuntimeError):
    """A process of the bench ended, or did not answer in time; the message has the end of what it wrote."""


class Worker:
    """A child process: ``python -m doorward.simulate.bench ROLE``, or any other command."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def ask(self, question: object, answer: type[T], wait_s_max: float) -> T:
        """Send a line and return the line that it answers; raise :class:`ProcessFailed`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            await self._process.stdin.drain()
        except OSError as error:
            raise self.failed(f"takes no more: {error}") from None
        return await self.hear(answer, wait_s_max)

    async def hear(self, answer: type[T], wait_s_max: float) -> T:
        """Return the next line that it says; raise :class:`ProcessFailed`."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(wait_s_max):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self.failed(f"did not answer within {wait_s_max:.0f} s") from None
        if not line:
            raise self.failed("ended")
        return msgspec.json.decode(line, type=answer)

    def failed(self, words: str) -> ProcessFailed:
        """Return the error that says what happened, with the end of the process's log."""
        tail = self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if self._log.exists() else ""
        return ProcessFailed(f"{self.name} {words}\n{tail}")

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.returncode is not None

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """End it in good order, or by force after the bound; idempotent."""
        if self.ended:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_WAIT_S_MAX):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def started(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Worker]:
    """Run a command until the block ends; what it writes to its standard error goes to ``log``."""
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            env={**os.environ, **(environment or {})},
            limit=LINE_BYTES_MAX,
        )
    worker = Worker(name, process, log)
    try:
        yield worker
    finally:
        await worker.stop()


def role(name: str) -> list[str]:
    """Return the command that plays one of the bench's own roles."""
    return [sys.executable, "-m", "doorward.simulate.bench", name]


# --- in the child ------------------------------------------------------------------------------------


async def questions() -> AsyncIterator[bytes]:
    """Yield the lines that the bench sends to this process, until it says no more."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


def read(path: str, kind: type[T]) -> T:
    """Return what the bench wrote to a file for this process."""
    return msgspec.json.decode(Path(path).read_bytes(), type=kind)


def say(answer: Any) -> None:
    """Answer the bench with one line."""
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


# --- what the kernel knows ---------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """Return a process and all of its descendants."""
    found, open_ends = [pid], [pid]
    while open_ends:
        children = _children(open_ends.pop())
        found += children
        open_ends += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += [int(word) for word in file.read_text().split()]
    return children


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds (user and system) that these processes have used until now."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def rss_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of these processes."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * KIB
    return total
