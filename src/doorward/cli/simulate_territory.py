"""``doorward simulate territory``: a whole utility's day, in virtual time."""

import random
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from doorward.simulate.curves import Series, chart
from doorward.simulate.territory import (
    Admission,
    Arrivals,
    Outcome,
    Plan,
    admissions,
    fewest_workers,
    play,
    weigh_event,
)


def territory(
    service_points: Annotated[int, typer.Option(min=1, help="How many service points.")] = 5_000_000,
    hours: Annotated[int, typer.Option(min=1, max=48, help="How long.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the phases and the jitter of reads.")] = 1,
    sample: Annotated[
        int, typer.Option(min=10, max=100_000, help="Service points whose limits are played to the message.")
    ] = 1_000,
    workers: Annotated[str, typer.Option(help="CCS processes to try, separated by commas.")] = "",
    cost_us: Annotated[int, typer.Option(min=1, help="CPU time of the CCS for a round trip.")] = 500,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Directory for the curves.", file_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Play a utility's day: every third party reads every 5 minutes, and an event at 18:00 curtails a tenth.

    Says what the CCS sees each minute, how many workers keep every deadline, and what breaks first.
    """
    began_s = time.monotonic()
    plan = Plan(
        service_points=service_points,
        hours=hours,
        seed=seed,
        sample=min(sample, service_points),
        read_us=cost_us,
        control_us=cost_us * 7 // 5,
    )
    admission = admissions(plan, random.Random(seed))
    share = [b / a if a else 1.0 for a, b in zip(admission.asked, admission.admitted, strict=True)]
    arrivals = Arrivals(plan, _hourly(share))
    needed = fewest_workers(plan, arrivals)
    tried = [int(word) for word in workers.split(",")] if workers else _around(needed)
    outcomes = [play(plan, arrivals, number) for number in tried]
    report = _report(plan, admission, arrivals, outcomes, needed)
    report["seconds"] = round(time.monotonic() - began_s, 1)
    if pictures is not None:
        _draw(pictures, plan, arrivals, outcomes)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        typer.echo("\n".join(_lines(report)))


def _hourly(share: list[float]) -> list[float]:
    """A sample's minutes are noisy; what the limits admit changes no faster than by the hour."""
    smooth = []
    for first in range(0, len(share), 60):
        part = share[first : first + 60]
        smooth += [sum(part) / len(part)] * len(part)
    return smooth


def _around(needed: int | None) -> list[int]:
    few = needed or 256
    return sorted({max(1, few * 3 // 4), max(1, few - 1), few, few * 3 // 2})


def _report(
    plan: Plan, admission: Admission, arrivals: Arrivals, outcomes: list[Outcome], needed: int | None
) -> dict[str, Any]:
    minutes = arrivals.per_minute()
    event = weigh_event(plan)
    asked = sum(admission.asked)
    usual = sorted(minutes)[len(minutes) // 2]
    return {
        "plan": msgspec.to_builtins(plan),
        "reads_asked": round(asked),
        "reads_admitted_share": sum(admission.admitted) / asked,
        "reads_held_a_moment_share": sum(admission.held) / asked,
        "messages_a_minute": {"usual": round(usual), "most": round(max(minutes))},
        "messages_a_second_on_the_clock": round(
            sum(cohort.count for cohort in arrivals.at(12 * 3600 % (plan.hours * 3600)))
        ),
        "workers_that_keep_every_deadline": needed,
        "event": msgspec.to_builtins(event),
        "workers": [
            {k: v for k, v in msgspec.to_builtins(each).items() if k != "backlog"} for each in outcomes
        ],
        "minutes": [round(count) for count in minutes],
    }


def _lines(report: dict[str, Any]) -> list[str]:
    event, minute = report["event"], report["messages_a_minute"]
    lines = [
        f"{report['plan']['service_points']:,} service points, {report['plan']['hours']} h, "
        f"played in {report['seconds']:g} s",
        f"reads asked {report['reads_asked']:,}; admitted {report['reads_admitted_share']:.1%}, "
        f"and {report['reads_held_a_moment_share']:.1%} wait a moment to fit",
        f"messages a minute: usual {minute['usual']:,}, most {minute['most']:,}",
        f"event: {event['controls']:,} homes, {event['mw']:,.0f} MW, {event['steepest_mw_per_minute']:.0f} MW "
        f"a minute; the default caps let {event['admitted_default']:.0%} through, "
        f"caps set for it {event['admitted_set']:.0%}",
        f"fewest workers that keep every deadline: {report['workers_that_keep_every_deadline']}",
        "workers  busy   wait p50   p99    max  missed",
    ]
    for each in report["workers"]:
        first = each["first_missed_s"]
        since = (
            "" if first is None else f", first at {first // 3600:02}:{first // 60 % 60:02} ({_tiers(each)})"
        )
        waits = f"{each['wait_p50_s']:>7.0f} s {each['wait_p99_s']:>4.0f} s {each['wait_max_s']:>4.0f} s"
        lines.append(
            f"{each['workers']:>7}  {each['busy_share']:>4.0%}  {waits}  {each['missed']:,.0f}{since}"
        )
    return lines


def _tiers(outcome: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count:,.0f}" for name, count in outcome["missed_by_tier"].items())


TOGETHER = 10


def _greatest(minutes: list[float]) -> list[float]:
    """Reads on the clock make a tooth every five minutes: what is drawn is how high the teeth are."""
    return [max(minutes[first : first + TOGETHER]) for first in range(0, len(minutes), TOGETHER)]


def _draw(place: Path, plan: Plan, arrivals: Arrivals, outcomes: list[Outcome]) -> None:
    many = f"{plan.service_points / 1e6:g} million service points"
    load = chart(
        f"What the CCS sees: {many}",
        "messages / min",
        60,
        [Series("messages a minute", arrivals.per_minute())],
    )
    (place / "territory-load.svg").write_text(load)
    backlog = [Series(f"{each.workers} workers", _greatest(each.backlog)) for each in outcomes]
    waiting = chart(f"What waits at most, every ten minutes: {many}", "messages", TOGETHER * 60, backlog)
    (place / "territory-backlog.svg").write_text(waiting)
