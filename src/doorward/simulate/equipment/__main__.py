"""``python -m doorward.simulate.equipment --config FILE``: run until a signal.

Prints one JSON line with all addresses (and the control's URL) when everything runs.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path

from doorward.kit.clock import SlewingClock
from doorward.simulate.equipment.neighbourhood import Configuration, Neighbourhood


async def run(configuration: Configuration) -> None:
    """Run a neighbourhood until SIGINT or SIGTERM."""
    neighbourhood = Neighbourhood(configuration, SlewingClock(time.time, time.monotonic))
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await neighbourhood.start()
    ready = {"addresses": neighbourhood.addresses, "control": neighbourhood.control_url}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    try:
        await over.wait()
    finally:
        await neighbourhood.stop()


def main() -> int:
    """Read the arguments and run; return the exit code (2: the configuration is wrong)."""
    parser = argparse.ArgumentParser(prog="python -m doorward.simulate.equipment", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file: see DeviceConfiguration")
    arguments = parser.parse_args()
    try:
        asyncio.run(run(Configuration.load(arguments.config)))
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
