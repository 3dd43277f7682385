"""``doorward demo``: a whole utility on this machine, with an energy manager already at work."""

import json
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from doorward.simulate.local_utility import DidNotStart, LocalUtility
from doorward.simulate.neighbourhood_plan import DEMO

app = typer.Typer(help="A whole utility on this machine.")

PLACE = Path(".doorward/demo")
STATE_FILE = "demo.json"
MANAGER = "brightgrid"
GUEST = "sunfold"
PAUSE_S = 20.0
TARGET_W = 8000.0
WATCH_S = 0.5


@app.callback(invoke_without_command=True)
def demo(
    dir: Annotated[Path, typer.Option("--dir", help="Where everything of the demo is kept.")] = PLACE,
    fresh: Annotated[
        bool, typer.Option("--fresh/--keep", help="Begin anew, or go on with what is there.")
    ] = True,
) -> None:
    """Start a CCS, three gateways, twelve devices and an energy manager; Ctrl-C stops all of it."""
    if fresh and (dir / STATE_FILE).exists():
        shutil.rmtree(dir)
    utility = LocalUtility(
        dir.absolute(),
        DEMO,
        {"per_hour": DEMO.per_hour, "per_day": DEMO.per_day, "utility_name": "Demo Power"},
    )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    began_s = time.monotonic()
    try:
        utility.start()
        utility.start_manager(MANAGER, TARGET_W, PAUSE_S)
        (utility.directory / STATE_FILE).write_text(json.dumps({"url": utility.url, "party": GUEST}))
        _say(utility, dir, time.monotonic() - began_s)
        while not stopped.wait(WATCH_S):
            utility.require_alive()
    except DidNotStart as failed:
        typer.echo(str(failed), err=True)
        sys.exit(1)
    finally:
        utility.stop()
        (utility.directory / STATE_FILE).unlink(missing_ok=True)


def _say(utility: LocalUtility, dir: Path, took_s: float) -> None:
    homes = len(utility.plan.homes)
    devices = sum(len(home.equipment) for home in utility.plan.homes)
    typer.echo(
        f"""Doorward demo: {homes} homes, {devices} devices, up in {took_s:.0f} s (loopback only; not production)
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
