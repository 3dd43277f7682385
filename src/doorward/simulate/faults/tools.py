"""Tools of the system with which faults are made: what is not there is said, never passed over."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from doorward.simulate.faults.report import ToolMissing

ATTACH_WAIT_S_MAX = 20.0
END_WAIT_S_MAX = 10.0
LOOK_S = 0.02
SYSTEM_PYTHON = "/usr/bin/python3"


def strace() -> str:
    """The path of ``strace``."""
    path = shutil.which("strace")
    if path is None:
        raise ToolMissing("strace is not installed (apt-get install strace)")
    return path


def wall_clock(place: Path) -> str:
    """A library, made in ``place``, that sets the wall clock of a process off by what a file says."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise ToolMissing("there is no C compiler (apt-get install gcc libc6-dev)")
    library = place / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise ToolMissing(f"wall_clock.c cannot be compiled here: {done.stderr.decode(errors='replace')}")
    return str(library)


def python_with_fuse() -> str:
    """The Python that has the system's FUSE module, where file systems may be mounted."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise ToolMissing("there is no /dev/fuse that we may use")
    done = subprocess.run([SYSTEM_PYTHON, "-c", "import fuse"], capture_output=True, check=False)
    if done.returncode or shutil.which("fusermount") is None:
        raise ToolMissing("FUSE for Python is not installed (apt-get install python3-fuse fuse3)")
    return SYSTEM_PYTHON


@contextmanager
def small_disk(place: Path, size_mb: int) -> Iterator[None]:
    """A disk of ``size_mb`` in memory at ``place`` (an empty directory) until the block ends."""
    place.mkdir(parents=True, exist_ok=True)
    options = f"size={size_mb}m,mode=0700"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "doorward-faults", str(place)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise ToolMissing(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


class Tracer:
    """``strace`` attached to a process and its threads, with faults injected into its system calls.

    ``inject`` are strace's own expressions: ``fdatasync:error=EIO``, ``pwrite64:signal=SIGKILL:when=3``.
    """

    def __init__(self, pid: int, calls: str, inject: tuple[str, ...], log: Path) -> None:
        self._log = log
        command = [strace(), "-f", "-p", str(pid), "-e", f"trace={calls}", "-o", str(log)]
        for each in inject:
            command += ["-e", f"inject={each}"]
        self._child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._wait_attached()

    def _wait_attached(self) -> None:
        assert self._child.stderr is not None
        os.set_blocking(self._child.stderr.fileno(), False)
        said = b""
        until_s = time.monotonic() + ATTACH_WAIT_S_MAX
        while b"attached" not in said:
            said += self._child.stderr.read() or b""
            if self._child.poll() is not None or time.monotonic() > until_s:
                self.stop()
                raise ToolMissing(f"strace cannot trace here: {said.decode(errors='replace').strip()}")
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """Let the process go on alone; idempotent."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)
            try:
                self._child.wait(END_WAIT_S_MAX)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self._child.stderr is not None:
            self._child.stderr.close()

    def calls(self) -> int:
        """How many system calls were seen."""
        return len(re.findall(r"^\d+ +\w+\(", self._log.read_text(errors="replace"), re.MULTILINE))

    def injected(self) -> int:
        """How many of them got a fault."""
        return self._log.read_text(errors="replace").count("(INJECTED)")


@contextmanager
def traced(pid: int, calls: str, *inject: str, log: Path) -> Iterator[Tracer]:
    """Trace a process until the block ends."""
    tracer = Tracer(pid, calls, inject, log)
    try:
        yield tracer
    finally:
        tracer.stop()
