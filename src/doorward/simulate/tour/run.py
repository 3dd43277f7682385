"""The tour from its beginning to its end: a stage, four chapters, and the stage is gone again."""

import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

from doorward.client import DoorwardError
from doorward.simulate.tour.evidence import Chapter, seen
from doorward.simulate.tour.record import record
from doorward.simulate.tour.refusals import refusals
from doorward.simulate.tour.scenario_1 import scenario_1
from doorward.simulate.tour.scenario_2 import scenario_2
from doorward.simulate.tour.stage import Stage

CHAPTERS: tuple[tuple[int | str, Callable[[Stage], Chapter]], ...] = (
    (1, scenario_1),
    (2, scenario_2),
    ("refusals", refusals),
    ("record", record),
)


def tour(engines: tuple[str, str], workers: int = 1) -> Generator[Chapter, None, None]:
    """Yield each chapter when it is played; all processes and files are gone afterwards.

    Raises ``DidNotStart`` or ``ServiceUnavailable`` when the utility does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="doorward-tour-") as directory:
        stage = Stage(Path(directory), engines, workers)
        try:
            stage.start()
            for name, play in CHAPTERS:
                yield _played(name, play, stage)
        finally:
            stage.stop()


def _played(name: int | str, play: Callable[[Stage], Chapter], stage: Stage) -> Chapter:
    """An answer that was not expected ends a chapter, and is told as what is wrong with it."""
    try:
        return play(stage)
    except DoorwardError as error:
        return Chapter.of(name, [seen("-", "the chapter was not played to its end", "-", 0, str(error))])
