"""The CCS's books are set back to an older backup: no act is repeated, no withdrawn permission lives again (P24).

An hour is played in seconds. What was accepted after the backup is not in the books any more: the third party
asks again under its own keys, as it must after a 202 that nobody remembers, and the gateway knows those keys.
"""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from doorward.client import DoorwardError
from doorward.simulate.faults.ledgers import read_gateway
from doorward.simulate.faults.report import Report
from doorward.simulate.faults.scene import PARTY, Scene, scene
from doorward.simulate.faults.stage import Stage
from doorward.simulate.local_utility import BOOKS


def restored(stage: Stage, report: Report) -> None:
    """Back up, go on, withdraw a permission, restore, go on."""
    with scene(stage.rng, stage.engines, homes=2) as running:
        books = running.utility.directory / BOOKS
        backup = running.utility.directory / "backup.sqlite"
        _run(running)
        running.begin()
        running.wait(1.0, 2.0)
        _back_up(books, backup)
        running.wait(2.0, 4.0)
        running.end()
        closed = running.traders[-1]
        _withdraw(running)
        before = {power: running.acts(power) for power in (told.power for told in closed.told)}
        running.kill("ccs")
        _restore(backup, books)
        report.did["books set back"] += 1
        running.start("ccs")
        running.until(lambda: _reads(running, 0), "the first home answers")
        asked_again = _ask_again(running)
        report.did["requests asked again under their keys"] += asked_again
        _require_closed(running, report)
        after = {power: running.acts(power) for power in before}
        report.require(before == after, "a permission that was withdrawn does not live again")
        _judge(running, report)


def _run(running: Scene) -> None:
    running.begin()
    running.wait(1.0, 2.0)
    running.end()


def _back_up(books: Path, backup: Path) -> None:
    """As an operator would, while it runs."""
    with closing(sqlite3.connect(books)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)


def _restore(backup: Path, books: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        books.with_name(books.name + suffix).unlink(missing_ok=True)
    books.write_bytes(backup.read_bytes())


def _withdraw(running: Scene) -> None:
    """The second customer lets the third party in no more, and its gateway knows."""
    plan = running.utility.plan
    homes = tuple(home.service_point for home in plan.homes[:1])
    running.utility.plan = replace(plan, parties=(replace(plan.parties[0], homes=homes),))
    running.utility.apply()
    gateway = running.gateways[1]
    running.until(
        lambda: any(row["step"] == "withdrawn" for row in running.utility.gateway_log(gateway)),
        "the gateway stores the withdrawal",
    )


def _reads(running: Scene, home: int) -> bool:
    with running.client() as asking:
        return asking.read(running.utility.plan.homes[home].equipment[0].id).is_done


def _ask_again(running: Scene) -> int:
    """Ask for everything again that the books do not know, under the same keys."""
    asked = 0
    with running.client() as asking:
        for trader in running.traders[:2]:
            known, after = set(), ""
            while True:
                page = asking.requests(after=after, limit=500)
                known |= {each.id for each in page.items}
                if not page.next:
                    break
                after = page.next
            for told in trader.told:
                if told.id and told.id not in known:
                    asking.request(
                        "limit", told.power[0], body={"watts": told.power[1]}, key=told.key, wait_s=20
                    )
                    asked += 1
    return asked


def _require_closed(running: Scene, report: Report) -> None:
    """The restored books believe that the permission lives; the gateway does not."""
    device = running.utility.plan.homes[1].equipment[0].id
    with running.client() as asking:
        try:
            seen = asking.request("limit", device, body={"watts": 299 + 1201}, wait_s=20)
            report.require(seen.state == "REFUSED", f"a withdrawn permission is refused, not {seen.state}")
        except DoorwardError as error:
            report.did[f"refused at the CCS ({error})"[:60]] += 1


def _judge(running: Scene, report: Report) -> None:
    """No power was taken twice, and what the gateways have, they have ended."""
    for trader in running.traders:
        for told in trader.told:
            report.require(len(running.acts(told.power)) <= 1, f"{told.key} acted more than once")
    for gateway in running.gateways:
        states, passed, _ = read_gateway(running.utility.directory / "gateways" / gateway)
        report.require(all(count == 1 for count in passed.values()), "a gateway tells its device once")
        report.require("RECEIVED" not in states.values(), "every request ends at its gateway")
    with running.client() as asking:
        open_ = [each.id for each in asking.requests(limit=500).items if not each.is_final]
    report.require(not open_, f"every request in the restored books has an end, but {len(open_)} of {PARTY}")
