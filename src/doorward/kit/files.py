"""Files that are whole or not there: written beside, synced, renamed; and a lock between processes."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

OWNER_ONLY = 0o600
LOCK_FILE = ".lock"


def write_atomically(path: Path, data: bytes, mode: int = OWNER_ONLY) -> None:
    """Replace ``path`` durably: after a crash it holds the old bytes or the new ones. Raises ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.replace(beside, path)
    _sync_directory(path.parent)


@contextlib.contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Keep other processes out of ``directory`` for a moment; it is made if it is not there.

    Look again inside whether a file is missing: another process may have made it. The end of a process lets
    go of it. Raises ``OSError``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
