"""What the README and the guide for third parties say to type works, against the demo that they speak of."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "howto" / "be-a-third-party.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(sh|python)\n(.*?)```", re.DOTALL)
START_WAIT_S_MAX = 120.0
STOP_WAIT_S_MAX = 60.0
EXAMPLE_WAIT_S_MAX = 120.0
LAST_LINE = "Ctrl-C"


@dataclass
class Demo:
    """A running demo, the directory that it was started in, and what it said."""

    process: "subprocess.Popen[str]"
    place: Path
    said: str

    def run(self, command: list[str], text: str) -> str:
        """Give an example to a program in the demo's place; return what it printed."""
        done = subprocess.run(
            command, input=text, cwd=self.place, capture_output=True, text=True, timeout=EXAMPLE_WAIT_S_MAX
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def shell(self, text: str) -> str:
        """Run shell commands, the first that fails ending them."""
        return self.run(["bash", "-euo", "pipefail"], text)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """``doorward demo``, in a place that looks like a checkout: the examples name ``.venv/bin/doorward``."""
    place = tmp_path_factory.mktemp("checkout")
    (place / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    process = subprocess.Popen(
        [".venv/bin/doorward", "demo"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield Demo(process, place, first_words(process))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=STOP_WAIT_S_MAX)


def first_words(process: "subprocess.Popen[str]") -> str:
    """Return what the demo says once it runs."""
    assert process.stdout is not None
    late = threading.Timer(START_WAIT_S_MAX, process.kill)
    late.start()
    said = ""
    while LAST_LINE not in said:
        line = process.stdout.readline()
        assert line, f"the demo ended: {said}"
        said += line
    late.cancel()
    return said


def blocks(page: str, language: str) -> list[str]:
    return [text for named, text in BLOCK.findall(page) if named == language]


def test_the_demo_says_in_about_ten_lines_what_runs_and_what_to_try(demo: Demo) -> None:
    assert len(demo.said.splitlines()) <= 12
    assert "12 devices" in demo.said
    assert "not production" in demo.said
    assert demo.said.count("doorward ask") == demo.said.count("doorward set") == 1


def test_the_readmes_first_commands_work(demo: Demo) -> None:
    first, asking, _ = blocks(README, "sh")
    assert first.strip() == "make demo"
    said = demo.shell(asking)
    assert said.count("\nDONE") == 2
    assert '"name": "on", "value": false' in said, "the pump's own file does not say that it was turned off"


def test_the_readmes_first_call_with_curl_works(demo: Demo) -> None:
    _, _, calling = blocks(README, "sh")
    assert '"state":"DONE"' in demo.shell(calling)


def test_the_readmes_first_call_with_the_sdk_works(demo: Demo) -> None:
    (example,) = blocks(README, "python")
    reading, done = demo.run([sys.executable, "-"], example).splitlines()
    assert re.fullmatch(r"[0-9.]+ W", reading)
    assert done.startswith("DONE ")


def test_all_that_a_third_party_is_told_to_type_works(demo: Demo) -> None:
    said = demo.shell("\n".join(blocks(GUIDE, "sh")))
    assert said.count('"state":"DONE"') == 2
    assert '"id":"TH-1001"' in said


def test_a_second_demo_in_the_same_place_is_refused_and_disturbs_nothing(demo: Demo) -> None:
    again = subprocess.run(
        [sys.executable, "-m", "doorward.cli", "demo"],
        cwd=demo.place, capture_output=True, text=True, timeout=START_WAIT_S_MAX,
    )  # fmt: skip
    assert again.returncode == 2
    assert "a demo runs in .doorward/demo already" in again.stderr
    assert demo.shell(".venv/bin/doorward ask TH-1001").count("\nDONE") == 1


def test_ctrl_c_stops_all_of_it_and_the_next_start_begins_anew(tmp_path: Path) -> None:
    place = tmp_path / ".doorward" / "demo"
    secrets = []
    for _ in range(2):
        start_and_stop(tmp_path)
        secrets.append((place / "secrets" / "sunfold").read_text())
    assert secrets[0] != secrets[1]
    start_and_stop(tmp_path, "--keep")
    assert (place / "secrets" / "sunfold").read_text() == secrets[1]


def start_and_stop(place: Path, *options: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "doorward.cli", "demo", *options],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        first_words(process)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 5
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=STOP_WAIT_S_MAX)
    finally:
        process.kill()
    assert (process.returncode, rest) == (0, "")
    assert [child for child in children if child.is_running()] == []
