"""``doorward demo``: a whole utility on this machine, with an energy manager already at work."""

import json
import shutil
import signal
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from doorward.client import Client, DoorwardError
from doorward.simulate.local_utility import UTILITY_FILE, DidNotStart, LocalUtility
from doorward.simulate.neighbourhood_plan import DEMO

app = typer.Typer(help="A whole utility on this machine.")

PLACE = Path(".doorward/demo")
STATE_FILE = "demo.json"
MANAGER = "brightgrid"
GUEST = "sunfold"
PAUSE_S = 20.0
TARGET_W = 12_000.0
"""Above it the energy manager turns the car chargers down, and leaves what is offered to try alone."""
WATCH_S = 0.5
LOOK_S_MAX = 2.0
CHARGERS_WAIT_S_MAX = 30.0


@app.callback(invoke_without_command=True)
def demo(
    dir: Annotated[Path, typer.Option("--dir", help="Where everything of the demo is kept.")] = PLACE,
    fresh: Annotated[
        bool, typer.Option("--fresh/--keep", help="Begin anew, or go on with what is there.")
    ] = True,
) -> None:
    """Start a CCS, three gateways, twelve devices and an energy manager; Ctrl-C stops all of it."""
    _make_room(dir, fresh)
    utility = LocalUtility(
        dir.absolute(),
        DEMO,
        {
            "per_hour": DEMO.per_hour,
            "per_day": DEMO.per_day,
            "utility_name": "Demo Power",
            "portal_choose": True,
            "timezone": "America/Toronto",
        },
    )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    began_s = time.monotonic()
    try:
        utility.start()
        _await_chargers(utility)
        utility.start_manager(MANAGER, TARGET_W, PAUSE_S)
        (utility.directory / STATE_FILE).write_text(json.dumps({"url": utility.url, "party": GUEST}))
        _say(utility, dir, time.monotonic() - began_s)
        while not stopped.wait(WATCH_S):
            utility.require_alive()
    except (DidNotStart, DoorwardError) as failed:
        typer.echo(str(failed), err=True)
        sys.exit(1)
    finally:
        utility.stop()
        (utility.directory / STATE_FILE).unlink(missing_ok=True)


def _make_room(dir: Path, fresh: bool) -> None:
    """Clear what an earlier demo left, and nothing else; exit when one runs there."""
    try:
        url = json.loads((dir / STATE_FILE).read_text())["url"]
        with urllib.request.urlopen(f"{url}/healthz", timeout=LOOK_S_MAX):  # noqa: S310
            running = True
    except OSError:  # urllib's errors too
        running = False
    if running:
        typer.echo(f"a demo runs in {dir} already; stop it, or give this one another --dir", err=True)
        raise typer.Exit(2)
    if fresh and (dir / UTILITY_FILE).exists():
        shutil.rmtree(dir)


def _await_chargers(utility: LocalUtility) -> None:
    """Chargers come to their gateways by themselves: wait until each answers; raise ``DidNotStart``."""
    end_s = time.monotonic() + CHARGERS_WAIT_S_MAX
    with Client(utility.url, client_id=MANAGER, client_secret=utility.secret(MANAGER)) as client:
        for charger in [
            each.id for home in DEMO.homes for each in home.equipment if each.protocol != "modbus"
        ]:
            while not (asked := client.read(charger)).is_done:
                if time.monotonic() > end_s:
                    raise DidNotStart(
                        f"{charger} does not answer: {asked.state} {asked.reason} {asked.detail}"
                    )
                time.sleep(WATCH_S)


def _say(utility: LocalUtility, dir: Path, took_s: float) -> None:
    homes = len(utility.plan.homes)
    devices = sum(len(home.equipment) for home in utility.plan.homes)
    typer.echo(
        f"""Doorward demo: {homes} homes, {devices} devices, up in {took_s:.0f} s (loopback only; not production)
  begin here  {utility.url}/  choose who you are: a customer, a representative, an operator, a developer
  API         {utility.url}/docs
  companies   brightgrid works by itself (read its story: {dir}/energy_manager.log), sunfold is you
  secret      {dir}/secrets/sunfold
  devices     what each really did: {dir}/devices/*.jsonl
  kept        everything is in {dir}; --keep goes on with it, the next start begins anew
  try         doorward ask TH-1001
              doorward set PP-1001 off
  limits      {utility.plan.per_hour} transactions an hour and home here, 24 in earnest
  Ctrl-C stops all of it"""
    )
