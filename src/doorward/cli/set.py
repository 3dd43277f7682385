"""``doorward set DEVICE WHAT``: control a device and watch the request's journey."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from doorward.cli.demo import PLACE
from doorward.cli.watching import Dir, Party, SecretFile, Url, client_of, fail, watch

app = typer.Typer(add_completion=False)


@app.command(context_settings={"ignore_unknown_options": True})
def set(
    device: Annotated[str, typer.Argument(help="The device's id.")],
    what: Annotated[str, typer.Argument(help="on, off, 1500W, 21C, +1C, mode=heat, shed=1, release")],
    hours: Annotated[float, typer.Option("--hours", min=0.01, help="How long it holds.")] = 1.0,
    dir: Dir = PLACE,
    url: Url = "",
    client_id: Party = "",
    secret_file: SecretFile = None,
) -> None:
    """Control DEVICE for a while, and watch the request's journey."""
    operation, body = control_of(what)
    how: dict[str, Any] = (
        {} if operation == "release" else {"until": timedelta(hours=hours), "cause": "customer"}
    )
    client = client_of(dir, url, client_id, secret_file)
    watch(client, lambda asking: asking.request(operation, device, body=body, wait_s=0, **how))


def control_of(what: str) -> tuple[str, dict[str, Any]]:
    """Return the operation and body that a word stands for; exit with the words that are known otherwise."""
    try:
        found = _read(what)
    except ValueError:
        found = None
    return found or fail(
        f"{what!r} is not known: on, off, 1500W, 21C, +1C, mode=heat, shed=1, load_up=1, release"
    )


def _read(what: str) -> tuple[str, dict[str, Any]] | None:
    if what in ("on", "off"):
        return f"turn_{what}", {}
    if what == "release":
        return "release", {}
    name, _, value = what.partition("=")
    if name == "mode" and value:
        return "mode", {"mode": value}
    if name in ("shed", "load_up"):
        return name, {"level": int(value)}
    if what.endswith("W"):
        return "limit", {"watts": float(what[:-1])}
    if what.endswith("C"):
        return "offset" if what[0] in "+-" else "setpoint", {"celsius": float(what[:-1])}
    return None
