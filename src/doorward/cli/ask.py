"""``doorward ask DEVICE``: read a device and watch the request's journey."""

from typing import Annotated

import typer

from doorward.cli.demo import PLACE
from doorward.cli.watching import Dir, Party, SecretFile, Url, client_of, watch

app = typer.Typer(add_completion=False)


@app.command()
def ask(
    device: Annotated[str, typer.Argument(help="The device's id.")],
    dir: Dir = PLACE,
    url: Url = "",
    client_id: Party = "",
    secret_file: SecretFile = None,
) -> None:
    """Read DEVICE now, and watch the request's journey."""
    client = client_of(dir, url, client_id, secret_file)
    watch(client, lambda asking: asking.request("read", device, wait_s=0))
