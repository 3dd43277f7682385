"""Python's cycle collector, set for a process with many long-lived objects.

With its defaults it walks a heap of thousands of connections again and again, and half of the time of a
round trip goes there. What exists at the start lives for ever; what a request makes dies by its
reference count; cycles are rare and may wait.
"""

import gc

YOUNG_OBJECTS = 50_000
"""New containers between two looks at the young ones (Python's default: 700)."""
YOUNG_LOOKS = 20
MIDDLE_LOOKS = 50


def calm() -> None:
    """Collect once, leave what is there out of every later look, and look seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_LOOKS, MIDDLE_LOOKS)
