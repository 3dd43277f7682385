"""``python -m doorward.simulate.bench ROLE``: one of the processes that a bench consists of."""

import logging
import random
import sys
import time

import uvloop

from doorward.kit.clock import SlewingClock
from doorward.simulate.bench import floor, gateways, load

ROLES = {
    "gateways": lambda: gateways.serve(SlewingClock(time.time, time.monotonic), random.SystemRandom()),
    "load": load.serve,
    "floor": floor.serve_floor,
    "echo": floor.serve_echo,
}


def main() -> int:
    """Play the role that the command line names; return the exit code (2: there is none)."""
    if len(sys.argv) != 2 or sys.argv[1] not in ROLES:
        sys.stderr.write(f"usage: python -m doorward.simulate.bench {'|'.join(ROLES)}\n")
        return 2
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(ROLES[sys.argv[1]]())
    return 0


if __name__ == "__main__":
    sys.exit(main())
