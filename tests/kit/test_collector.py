"""The cycle collector is calmed once for a process, and cycles still go."""

import gc
import subprocess
import sys

SCRIPT = """
import gc, weakref
from doorward.kit.collector import calm
calm()
class Knot: pass
def tie():
    knot = Knot(); knot.self = knot
    return weakref.ref(knot)
seen = tie()
for _ in range(3_000_000):
    held = [[]]
keep = [[] for _ in range(2_000_000)]
print(gc.get_freeze_count() > 0, gc.get_threshold()[0] > 10_000, seen() is None)
"""


def test_what_was_there_is_left_alone_and_new_cycles_are_still_collected() -> None:
    assert gc.isenabled()
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True True True\n", done.stderr
