"""``doorward bench``: measure round trips, against the floor."""

import asyncio
import random
import signal
import time
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from doorward.kit.clock import SlewingClock
from doorward.simulate.bench.plan import HONO_PER_S, HandOver, Plan
from doorward.simulate.bench.processes import ProcessFailed
from doorward.simulate.bench.report import Report, draw
from doorward.simulate.bench.run import run
from doorward.simulate.services import ServiceUnavailable

app = typer.Typer(help="Measure round trips, against the floor.")

HAND_OVERS: dict[str, HandOver] = {"wait": "wait", "webhook": "webhook", "stream": "stream"}


@app.callback(invoke_without_command=True)
def bench(
    engines: Annotated[
        str, typer.Option(help="Store and link: sqlite,websocket or postgresql,websocket or postgresql,mqtt.")
    ] = "sqlite,websocket",
    workers: Annotated[int, typer.Option(min=1, max=64, help="CCS processes (postgresql,mqtt).")] = 1,
    gateways: Annotated[int, typer.Option(min=1, max=20_000, help="Gateways that connect.")] = 1_000,
    light: Annotated[
        bool, typer.Option("--light", help="Light gateways: real links and frames, no store and no checks.")
    ] = False,
    storm: Annotated[
        bool, typer.Option("--storm", help="Also a phase in which all (light) gateways reconnect.")
    ] = False,
    history: Annotated[
        int, typer.Option(min=0, max=100_000_000, help="Journal rows that are there before it begins.")
    ] = 0,
    rate: Annotated[
        float, typer.Option(min=1, max=5000, help="Round trips a second when steady.")
    ] = HONO_PER_S,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="Length of a phase at saturation.")] = 7.0,
    hand_over: Annotated[
        str, typer.Option(help="How answers are handed over at saturation: wait, webhook, stream.")
    ] = "wait,webhook",
    quick: Annotated[
        bool, typer.Option("--quick", help="A few gateways and requests: whether it works.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Run the real CCS, many real gateways and third parties, measure them, and compare the ledgers.

    Exits with 1 when a request was lost, refused or done twice.
    """
    try:
        plan = Plan.of(
            engines,
            workers=workers,
            gateways=gateways,
            rate_per_s=rate,
            seconds=seconds,
            hand_overs=_hand_overs(hand_over),
            quick=quick,
            light=light,
            storm=storm,
            history=history,
        )
        report = asyncio.run(_measure(plan))
    except asyncio.CancelledError:
        raise typer.Exit(130) from None
    except (ValueError, ProcessFailed, ServiceUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(msgspec.json.encode(report.view()))
    else:
        draw(report, Console())
    raise typer.Exit(0 if report.sound else 1)


async def _measure(plan: Plan) -> Report:
    """Run, and end whatever was started also when we are told to stop."""
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await run(plan, SlewingClock(time.time, time.monotonic), random.SystemRandom(), _progress)


def _progress(words: str) -> None:
    typer.echo(words, err=True)


def _hand_overs(text: str) -> list[HandOver]:
    named = [word.strip() for word in text.split(",")]
    unknown = [word for word in named if word not in HAND_OVERS]
    if unknown:
        raise ValueError(f"hand-over: {unknown[0]!r} is none of {', '.join(HAND_OVERS)}")
    return [HAND_OVERS[word] for word in named]
