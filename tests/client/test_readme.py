"""Every example in the SDK's README runs against a real utility: CCS, gateway and a charger, as processes."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import doorward.client
from doorward.client import AsyncClient, Client, NotPermitted
from doorward.client.defaults import real_clock
from doorward.simulate.local_utility import LocalUtility
from doorward.simulate.neighbourhood_plan import Company, Equipment, Home, Plan
from doorward.wire.signatures import public_jwk
from doorward.wire.vocabulary import DeviceClass
from doorward.wire.webhook_signature import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    secret_text,
    sign,
)

README = Path(doorward.client.__file__).with_name("README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## (.+?)\n(?:(?!^## ).*\n)*?```python\n((?:.*\n)*?)```", README, re.MULTILINE)
STRONGER = "Stronger proof"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
READY_WAIT_S_MAX = 60.0

PLAN = Plan(
    homes=(
        Home("SP-1", "SPG-1", "Ada", (Equipment("EV-1", DeviceClass.EV_CHARGER, "Car", "ocpp1.6", 7400),)),
    ),
    parties=(Company("brightgrid", "BrightGrid", "premium", ("SP-1",)),),
    per_hour=1000,
    per_day=10_000,
)
SIGNER = """
[[party]]
id = "signer"
name = "Signer"
auth = "private_key_jwt"
jwks_file = "signer.jwks"
command_keys_file = "signer.jwks"
signature_required = true

[[grant]]
party = "signer"
service_point = "SP-1"
purpose = "savings"
tier = "premium"
until = 2099-01-01
[[grant.device]]
id = "EV-1"
operations = ["read", "limit"]
"""


@pytest.fixture(scope="module")
def utility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalUtility]:
    """A utility in which one company uses a secret and another signs all it says."""
    limits = {"per_hour": PLAN.per_hour, "per_day": PLAN.per_day}
    built = LocalUtility(tmp_path_factory.mktemp("utility"), PLAN, limits)
    try:
        built.start()
        also_signer(built)
        until_ready(built)
        yield built
    finally:
        built.stop()


def also_signer(utility: LocalUtility) -> None:
    """The file grows while the CCS runs."""
    jwk = {**public_jwk(KEY.public_key()), "kid": "k1"}
    (utility.directory / "signer.jwks").write_bytes(msgspec.json.encode({"keys": [jwk]}))
    file = utility.directory / "utility.toml"
    file.write_text(file.read_text() + SIGNER)
    utility.command("apply", str(file), "--dir", str(utility.directory / "ccs"))


def until_ready(utility: LocalUtility) -> None:
    """Wait until a read comes back from the home."""
    end_s = time.monotonic() + READY_WAIT_S_MAX
    with Client(utility.url, client_id="brightgrid", client_secret=utility.secret("brightgrid")) as client:
        while not client.read("EV-1", wait_s=5).is_done:
            assert time.monotonic() < end_s, [client.requests().items]
            utility.require_alive()


def names(utility: LocalUtility, title: str) -> dict[str, Any]:
    """What the examples leave to the reader."""
    secret, body = secret_text(b"s" * 32), b'{"type":"endpoint.challenge","challenge":"c"}'
    at_s = real_clock().now_us() // 1_000_000
    return {
        "base_url": utility.url,
        "client_id": "signer" if title == STRONGER else "brightgrid",
        "client_secret": utility.secret("brightgrid"),
        "ca": None,
        "private_key": KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "secret": secret,
        "webhook_body": body,
        "webhook_headers": {
            ID_HEADER: "m1",
            TIMESTAMP_HEADER: str(at_s),
            SIGNATURE_HEADER: sign("m1", at_s, body, [secret], None),
        },
    }


@pytest.mark.parametrize("title, code", EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_an_example_of_the_readme_runs(utility: LocalUtility, title: str, code: str) -> None:
    exec(compile(code, f"README: {title}", "exec"), names(utility, title))


def test_what_is_signed_end_to_end_is_done_and_what_is_not_is_refused(utility: LocalUtility) -> None:
    """The gateway in the home checks the third party's own signature, and the charger follows; the door says no."""
    before = len(utility.actuations("EV-1"))
    with Client(
        utility.url, client_id="signer", private_key=KEY, key_id="k1", command_key=KEY, command_key_id="k1"
    ) as client:
        done = client.limit("EV-1", watts=1400)
        assert (done.state, done.reason) == ("DONE", None)
        assert len(utility.actuations("EV-1")) > before
    unsigned = Client(utility.url, client_id="signer", private_key=KEY, key_id="k1")
    with unsigned, pytest.raises(NotPermitted, match="signature-invalid"):
        unsigned.limit("EV-1", watts=2000)


def test_no_example_is_left_out_and_the_table_names_real_methods() -> None:
    assert len(EXAMPLES) == README.count("```python") >= 7
    called = re.findall(r"`(\w+)\(", README.split("| method |")[1].split("\n\n")[0])
    assert [name for name in called if not hasattr(AsyncClient, name)] == []
    assert len(set(called)) >= 13
