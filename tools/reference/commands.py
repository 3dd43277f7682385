"""commands.md: what ``doorward`` does at a terminal."""

import importlib
from collections.abc import Iterator
from typing import Any

import typer

from doorward.cli.main import COMMANDS
from tools.reference.pages import page, table, words


def commands_page() -> str:
    """Every command with its arguments and options."""
    body = [line for name in COMMANDS for line in command_lines(name)]
    return page(
        "Commands",
        "`doorward --version` says the version, `doorward COMMAND --help` what stands here.",
        body,
    )


def command_lines(name: str) -> Iterator[str]:
    """Yield the section of a command and of those below it."""
    command: Any = typer.main.get_command(importlib.import_module(COMMANDS[name][0]).app)
    yield from one_command(f"doorward {name}", command, "##")
    for below, each in getattr(command, "commands", {}).items():
        yield from one_command(f"doorward {name} {below}", each, "###")


def one_command(name: str, command: Any, heading: str) -> Iterator[str]:
    """Yield the section of one command."""
    shown = [one for one in command.params if one.expose_value and not one.hidden]
    arguments = " ".join(one.name.upper() for one in shown if one.param_type_name == "argument")
    yield from (f"{heading} {name}", "", f"`{name} {arguments}`".replace(" `", "`"), "")
    said = command.callback.__doc__ if command.callback else command.help
    yield from (words(said), "")
    if shown:
        yield from table(["", "meaning", "default"], [parameter(one) for one in shown])
        yield ""


def parameter(one: Any) -> list[str]:
    """Return the row of an argument or option."""
    names = [one.name.upper()] if one.param_type_name == "argument" else [*one.opts, *one.secondary_opts]
    environment = f" (`{one.envvar}`)" if one.envvar else ""
    plain = one.default in (None, "") or isinstance(one.default, bool)
    said = f"{one.help}{environment}"
    return [", ".join(f"`{name}`" for name in names), said, "" if plain else f"`{one.default}`"]
