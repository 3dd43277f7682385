"""Every example in the SDK's README runs, top to bottom, against an API over real HTTP."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import doorward.client
from doorward.client import AsyncClient
from doorward.client.defaults import real_clock
from doorward.wire.webhook_signature import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    secret_text,
    sign,
)
from tests.client.fake_api import FakeApi, serving

README = Path(doorward.client.__file__).with_name("README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## (.+?)\n(?:(?!^## ).*\n)*?```python\n((?:.*\n)*?)```", README, re.MULTILINE)


def names(url: str) -> dict[str, Any]:
    """What the examples leave to the reader."""
    secret, body = secret_text(b"s" * 32), b'{"type":"endpoint.challenge","challenge":"c"}'
    at_s = real_clock().now_us() // 1_000_000
    key = Ed25519PrivateKey.generate()
    return {
        "base_url": url,
        "client_id": "brightgrid",
        "client_secret": "hush",
        "ca": None,
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "secret": secret,
        "webhook_body": body,
        "webhook_headers": {
            ID_HEADER: "m1",
            TIMESTAMP_HEADER: str(at_s),
            SIGNATURE_HEADER: sign("m1", at_s, body, [secret], None),
        },
    }


@pytest.mark.parametrize("title, code", EXAMPLES, ids=[title for title, _ in EXAMPLES])
async def test_an_example_of_the_readme_runs(title: str, code: str) -> None:
    api = FakeApi()
    api.streams = [[("c1", {"id": "e1", "type": "request.result", "request": "0190-1"})]]
    async with serving(api):
        await asyncio.to_thread(exec, compile(code, f"README: {title}", "exec"), names(api.url))


def test_no_example_is_left_out_and_the_table_names_real_methods() -> None:
    assert len(EXAMPLES) == README.count("```python") >= 7
    called = re.findall(r"`(\w+)\(", README.split("| method |")[1].split("\n\n")[0])
    assert [name for name in called if not hasattr(AsyncClient, name)] == []
    assert len(set(called)) >= 13
