"""``python -m doorward.cli``: the same as ``doorward``."""

from doorward.cli.main import app

app()
