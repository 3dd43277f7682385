"""``doorward``: the commands, each in a module of its own that is read when it is called."""

import importlib
import sys

import typer

from doorward import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "ccs": ("doorward.cli.ccs", "Run the utility's Customer Communication System."),
    "spg": ("doorward.cli.spg", "Run a gateway, enrol it, read its journal."),
    "apply": ("doorward.cli.apply", "Bring a utility's data to the state that a file describes."),
    "consent-authority": (
        "doorward.cli.consent_authority",
        "Run the authority that signs customers' permissions, apart from the CCS.",
    ),
    "fleet": ("doorward.cli.fleet", "Caps on moved load: what is used of them, and what is over them."),
    "gateways": ("doorward.cli.gateways", "Withdraw gateways; write the list of withdrawn certificates."),
    "keys": ("doorward.cli.keys", "Change the keys with which the CCS signs."),
    "formats": ("doorward.cli.formats", "List, add and retire message formats."),
    "people": ("doorward.cli.people", "Who can sign in to the portal; one-time links."),
    "demo": ("doorward.cli.demo", "A whole utility on this machine."),
    "tour": ("doorward.cli.tour", "Walk through scenarios 1 and 2 on a fresh system."),
    "audit": ("doorward.cli.audit", "Verify the record, and that permission stood for all."),
    "bench": ("doorward.cli.bench", "Measure round trips, against the floor."),
    "simulate": ("doorward.cli.simulate", "The real CCS and gateways in worlds of virtual time."),
    "ask": ("doorward.cli.ask", "Ask a device, and watch the request's journey."),
    "set": ("doorward.cli.set", "Control a device, and watch the request's journey."),
}
"""Command → the module that holds it as ``app`` (a Typer), and its line of help."""


def app() -> None:
    """Run the command that the command line names. Others are not even read, so that each starts quickly."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        name, *rest = arguments
        module = importlib.import_module(COMMANDS[name][0])
        typer.main.get_command(module.app)(args=rest, prog_name=f"doorward {name}")
    listing()(args=arguments, prog_name="doorward")


def listing() -> typer.Typer:
    """Return what answers when no command is named: the list of them, the version, an error."""
    found = typer.Typer(
        help="The door between companies outside a utility and the equipment inside its customers' homes.",
        no_args_is_help=True,
        add_completion=False,
    )
    found.callback(invoke_without_command=True)(_version)
    for name, (_, said) in COMMANDS.items():
        found.command(name, help=said)(_nothing)
    return found


def _version(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _nothing() -> None:
    raise AssertionError("a command that is named is read from its own module")
