"""The file of what a device really did: written by the device, and by nobody else.

One JSON line per write that the device obeyed: ``at_us``, ``device``, ``via`` (register or OCPP
command), ``name``, ``value``, ``effect`` ([before, after]) and ``repeat`` (true when it was so already,
so nothing changed). A write that the device did not obey leaves no line. Each line is on the disk before
the device answers, so it survives any kill.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path


class ActuationFile:
    """An append-only file; several processes may append to the same one."""

    def __init__(self, path: Path, device: str, now_us: Callable[[], int]) -> None:
        self._device = device
        self._now_us = now_us
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def record(self, *, via: str, name: str, value: object, before: object, after: object) -> None:
        """Append one line and wait until it is on the disk."""
        line = {
            "at_us": self._now_us(),
            "device": self._device,
            "via": via,
            "name": name,
            "value": value,
            "effect": [before, after],
            "repeat": before == after,
        }
        os.write(self._fd, json.dumps(line).encode() + b"\n")
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
