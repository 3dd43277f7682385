"""``doorward simulate swing``: how steeply an attacker can swing a city's load, with and without protections."""

import random
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from doorward.ccs.rules.fleet import FleetTerms
from doorward.simulate.curves import Series, chart
from doorward.simulate.swing import Case, City, caps_of
from doorward.spg.rules.facts import Policy

CURVES = {
    "swing-one-key.svg": (
        "One third party's key, a million homes: load off the usual",
        "one third party's key",
    ),
    "swing-whole-ccs.svg": ("The whole CCS, a million homes: load off the usual", "the whole CCS"),
}
CITY_MW = 1_000
"""Attacks that move more than this are not drawn beside the others."""


def swing(
    homes: Annotated[int, typer.Option(min=1, help="Homes, with one device each.")] = 1_000_000,
    watts: Annotated[int, typer.Option(min=1, help="Power of each device.")] = 1_500,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Directory for the curves.", file_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Play attacks with one third party's key, and with the whole CCS, on the real caps and draws."""
    terms, policy = FleetTerms(), Policy()
    cases = list(City(homes, watts, terms, policy, random.Random(seed)).cases())
    if pictures is not None:
        for name, (title, attacker) in CURVES.items():
            (pictures / name).write_text(
                _picture(title, [each for each in cases if each.attacker == attacker])
            )
    if as_json:
        report = {"homes": homes, "device_w": watts, "seed": seed, "caps": caps_of(terms)}
        shown = [{k: v for k, v in msgspec.to_builtins(each).items() if k != "curve"} for each in cases]
        typer.echo(msgspec.json.encode(report | {"cases": shown}))
        return
    typer.echo(f"{'':10}{'MW in any':>10} second    minute    5 min")
    for each in cases:
        steps = "".join(f"{mw:>10.1f}" for mw in each.steps_mw.values())
        typer.echo(f"{steps}  {each.attacker}, {each.protections}: {each.attack}")


def _picture(title: str, cases: list[Case]) -> str:
    """What is left when the city is protected: beside everything at once it would be a flat line."""
    guarded = [each for each in cases if each.protections == "caps and draws" and each.moved_mw < CITY_MW]
    return chart(title, "MW", 1, [Series(each.attack, each.curve) for each in guarded], unit_s="min")
