"""A CCS comes back, and with it thousands of gateways at once: the API goes on answering (P20).

The gateways are real ones with certificates of their own, in one process, with homes in memory. They come back
with full jitter; the link takes so many handshakes a second and no more.
"""

import asyncio
import base64
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from doorward.ccs.app import prepare
from doorward.ccs.settings import PREFIX, SQLITE_FILE, read_settings
from doorward.client.defaults import real_clock
from doorward.simulate.bench import gateways
from doorward.simulate.bench.briefs import HOST
from doorward.simulate.bench.http import NoAnswer, Pool, request
from doorward.simulate.bench.plan import Plan
from doorward.simulate.bench.processes import Worker, role, rss_bytes, started
from doorward.simulate.bench.town import Builder, Town
from doorward.simulate.faults.report import Report
from doorward.simulate.faults.stage import Stage
from doorward.simulate.services import free_port, workplace
from doorward.wire.enrolment import LinkAddress

START_WAIT_S_MAX = 300.0
BACK_S_MAX = 300.0
ANSWER_S_MAX = 2.0
"""The 99th percentile of the API's answers while they come back."""
PROBE_PAUSE_S = 0.05
LOOK_S = 0.5


def storm(stage: Stage, report: Report) -> None:
    """Connect them, kill the CCS, start it again, and measure until the last one is back."""
    count = stage.times(full=2_000, quick=100)
    with workplace(None) as place:
        asyncio.run(_storm(place, count, stage.times(full=2, quick=1), report))


async def _storm(place: Path, count: int, times: int, report: Report) -> None:
    plan = Plan.of(
        "sqlite,websocket", workers=1, gateways=count, rate_per_s=1, seconds=1, hand_overs=[], quick=False
    )
    given = {
        "data_dir": place / "ccs",
        "port": free_port(),
        "link_port": free_port(),
        "enrol_port": free_port(),
    }
    environment = {f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()}
    environment[f"{PREFIX}LOG_LEVEL"] = "error"
    settings, dice = read_settings(None, **given), random.SystemRandom()
    await prepare(settings, dice)
    (place / "seats").mkdir()
    link = LinkAddress(kind="websocket", urls=[f"wss://{HOST}:{given['link_port']}"])
    town = await Builder(plan, settings, real_clock(), dice).build(place / "seats", link)
    homes = place / "homes.json"
    homes.write_bytes(msgspec.json.encode(town.homes))
    command = [sys.executable, "-m", "doorward.cli", "ccs"]
    books = place / "ccs" / SQLITE_FILE
    async with started("the gateways", role("gateways"), place / "gateways.log") as street:
        for number in range(times + 1):
            async with started("the CCS", command, place / "ccs.log", environment) as ccs:
                await _until(lambda: _answers(settings.port), START_WAIT_S_MAX)
                if number:
                    await _measure(town, books, ccs, settings.port, report)
                else:
                    await street.ask(gateways.Order(do="start", path=str(homes)), int, START_WAIT_S_MAX)
                    report.figures["gateways"] = count
                before = _marks(books)
                (place / "marks.json").write_bytes(msgspec.json.encode(before))
                ccs.kill()
            report.did["CCS killed under all gateways"] += number < times


async def _measure(town: Town, books: Path, ccs: Worker, port: int, report: Report) -> None:
    """Until every gateway has been heard again, ask the API, and count."""
    before = msgspec.json.decode((books.parent.parent / "marks.json").read_bytes(), type=dict[str, int])
    began_s, took_s, failed = time.monotonic(), [], 0
    pool = Pool(HOST, port)
    token = await _token(pool, town)
    ask = request("GET", "/v1/grants", HOST, headers=(f"authorization: Bearer {token}",))
    back = asyncio.ensure_future(_until(lambda: _are_back(books, before), BACK_S_MAX))
    while not back.done():
        asked_s = time.monotonic()
        try:
            status, _ = await pool.call(ask)
        except (OSError, NoAnswer):
            status = 0
        took_s.append(time.monotonic() - asked_s)
        failed += status != 200
        await asyncio.sleep(PROBE_PAUSE_S)
    pool.close()
    now = _marks(books)
    away = [gateway for gateway, mark in before.items() if now[gateway] <= mark]
    report.require(
        back.exception() is None, f"{len(away)} of {len(before)} were not back in {BACK_S_MAX:.0f} s"
    )
    took_s.sort()
    p99_s = took_s[int(len(took_s) * 0.99)]
    report.did["gateways that came back"] += len(before) - len(away)
    report.figures |= {
        "s until all were back": round(time.monotonic() - began_s, 1),
        "API answers meanwhile": len(took_s),
        "API p50 ms": round(took_s[len(took_s) // 2] * 1e3, 1),
        "API p99 ms": round(p99_s * 1e3, 1),
        "CCS MB": round(rss_bytes([ccs.pid]) / 1e6),
    }
    report.require(failed == 0, f"{failed} of {len(took_s)} calls were not answered")
    report.require(p99_s < ANSWER_S_MAX, f"the API answers within {ANSWER_S_MAX} s (p99)")


async def _token(pool: Pool, town: Town) -> str:
    trader = town.market.traders[0]
    basic = base64.b64encode(f"{trader.party}:{trader.secret}".encode()).decode()
    form = b"grant_type=client_credentials"
    headers = (
        f"authorization: Basic {basic}",
        "content-type: application/x-www-form-urlencoded",
        f"content-length: {len(form)}",
    )
    _, body = await pool.call(request("POST", "/oauth/token", HOST, headers=headers) + form)
    return str(msgspec.json.decode(body)["access_token"])


async def _answers(port: int) -> bool:
    pool = Pool(HOST, port)
    try:
        status, _ = await pool.call(request("GET", "/readyz", HOST))
    except (OSError, NoAnswer):
        return False
    finally:
        pool.close()
    return status == 200


async def _are_back(books: Path, before: dict[str, int]) -> bool:
    now = await asyncio.to_thread(_marks, books)
    return all(now[gateway] > mark for gateway, mark in before.items())


def _marks(books: Path) -> dict[str, int]:
    """The number of the last frame that the CCS took of each gateway."""
    with closing(sqlite3.connect(f"file:{books}?mode=ro", uri=True, timeout=10)) as connection:
        return dict(connection.execute("SELECT id, up_counter FROM gateway"))


async def _until(look: Callable[[], Coroutine[Any, Any, bool]], wait_s_max: float) -> None:
    """Raise ``TimeoutError`` when it does not come true."""
    async with asyncio.timeout(wait_s_max):
        while not await look():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(LOOK_S)
