"""Every decoder of what others send: it says what is wrong in its own words, in bounded memory, whatever comes.

``DOORWARD_FUZZ_EXAMPLES`` is how much each is given (``make hostile`` gives more).
"""

import json
import os
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.ccs.doors.api.requests import id_of, wait_of
from doorward.ccs.engines.webhook_address import AddressRefused, check_url, policy_of
from doorward.ccs.rules.asking import read_ask
from doorward.ccs.rules.possession import read_proof
from doorward.ccs.tokens import Attempt, OAuthRefused, _unverified, _verifies
from doorward.cli.utility.mistakes import FileWrong
from doorward.cli.utility.reading import read_utility
from doorward.client.errors import WebhookRefused
from doorward.client.webhook import verify_webhook
from doorward.wire import codec
from doorward.wire.enrolment import csr_key, parse_code
from doorward.wire.grants import GrantDocument, SignedCommand
from doorward.wire.messages import Down, Up
from doorward.wire.reasons import Refused
from doorward.wire.signatures import b64url, public_jwk, sign, verify
from doorward.wire.times import from_rfc3339
from doorward.wire.webhook_signature import secret_text
from doorward.wire.webhook_signature import sign as sign_webhook

EXAMPLES = int(os.environ.get("DOORWARD_FUZZ_EXAMPLES", "25"))
KEY = b"k" * 32
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
SECRET = secret_text(bytes(32))
NOW_S = 1_800_000_000
MEMORY_MAX = 4 * 2**20
MEMORY_PER_BYTE_MAX = 60
"""How much memory a decoder may take for each byte that it was given."""

Decode = Callable[[bytes], object]


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def sealed(direction: bytes, raw: bytes) -> bytes:
    """As an enrolled gateway (or the CCS) that has gone bad would send it: with the right MAC."""
    return codec._seal(direction, raw, KEY)


def in_frame(raw: bytes) -> bytes:
    return b'{"v":1,"gateway":"g","epoch":1,"counter":1,"messages":[' + raw + b"]}"


def signed(raw: bytes) -> str:
    return sign(raw, SIGNER, "k", "grant")


def assertion(raw: bytes) -> object:
    token = f"{b64url(raw)}.{b64url(raw)}.{b64url(raw[:64])}"
    keys = json.dumps({"keys": [{**public_jwk(SIGNER.public_key()), "kid": "k"}]})
    assert not _verifies(token, [keys])
    return _unverified(Attempt(client="", assertion=token))


def webhook(raw: bytes) -> object:
    signature = sign_webhook("m", NOW_S, raw, [SECRET], None)
    headers = {"webhook-id": "m", "webhook-timestamp": str(NOW_S), "webhook-signature": signature}
    return verify_webhook(headers, raw, secret=SECRET, now_s=NOW_S)


@dataclass(frozen=True)
class Door:
    """A decoder, and what it may raise."""

    decode: Decode
    says: tuple[type[Exception], ...]


DOORS: dict[str, Door] = {
    "frame up, with its MAC": Door(lambda raw: codec.decode_up(sealed(b"up", raw), "g", KEY), (Refused,)),
    "frame down, with its MAC": Door(
        lambda raw: codec.decode_down(sealed(b"down", raw), "g", KEY), (Refused,)
    ),
    "message up, in a good frame": Door(
        lambda raw: codec.decode_up(sealed(b"up", in_frame(raw)), "g", KEY), (Refused,)
    ),
    "message down, in a good frame": Door(
        lambda raw: codec.decode_down(sealed(b"down", in_frame(raw)), "g", KEY), (Refused,)
    ),
    "frame, without": Door(lambda raw: codec.decode_up(raw, "g", KEY), (Refused,)),
    "request": Door(read_ask, (Refused,)),
    "signature": Door(
        lambda raw: verify(text(raw), {"k": public_jwk(SIGNER.public_key())}, "grant"), (Refused,)
    ),
    "client assertion": Door(assertion, (OAuthRefused,)),
    "proof of possession": Door(
        lambda raw: read_proof(f"{b64url(raw)}.{b64url(raw)}.AA", "GET", "https://x/", NOW_S * 10**6),
        (Refused,),
    ),
    "proof of possession, as text": Door(
        lambda raw: read_proof(text(raw), "GET", "https://x/", NOW_S * 10**6), (Refused,)
    ),
    "webhook": Door(webhook, (WebhookRefused,)),
    "webhook, unsigned": Door(
        lambda raw: verify_webhook({"webhook-id": text(raw)[:99]}, raw, secret=SECRET), (WebhookRefused,)
    ),
    "webhook URL": Door(lambda raw: check_url(text(raw), policy_of(())), (AddressRefused,)),
    "enrolment code": Door(lambda raw: parse_code(text(raw)), (ValueError,)),
    "certificate request": Door(lambda raw: csr_key(text(raw)), (Refused,)),
    "utility's file": Door(lambda raw: read_utility(text(raw), Path("/nonexistent")), (FileWrong,)),
    "time": Door(lambda raw: from_rfc3339(text(raw)), (ValueError,)),
    "preference": Door(lambda raw: wait_of(text(raw)), ()),
    "id": Door(lambda raw: id_of(text(raw)), ()),
}

MESSAGES = [*get_args(Down), *get_args(Up)]
RECORDS = [*MESSAGES, GrantDocument, SignedCommand]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted({field.encode_name for record in RECORDS for field in msgspec.structs.fields(record)})
TAGS = sorted({str(message.__struct_config__.tag) for message in MESSAGES})
WORDS = [
    "operation", "read", "setpoint", "scope", "home", "body", "until", "start", "key", "typ", "dpop+jwt", "alg",
    "jwk",
    "kty", "OKP", "crv", "Ed25519", "jti", "htm", "htu", "iat", "iss", "sub", "aud", "exp", "data", "challenge",
]  # fmt: skip
near = st.dictionaries(
    st.sampled_from(FIELDS + WORDS), values | st.sampled_from(TAGS + WORDS), max_size=8
).flatmap(lambda made: st.sampled_from(TAGS).map(lambda tag: {"type": tag, **made}) | st.just(made))
bytes_of_all_kinds = (
    st.binary(max_size=300)
    | st.text(max_size=200).map(lambda said: said.encode("utf-8", "surrogatepass"))
    | values.map(lambda value: json.dumps(value).encode())
    | near.map(lambda value: json.dumps(value).encode())
    | near.map(lambda value: json.dumps(value).encode()[:-1])
    | st.text(alphabet="[]{}=\"'.\n#abc01", max_size=120).map(str.encode)
)


def require_words(door: Door, raw: bytes) -> None:
    with suppress(*door.says):
        door.decode(raw)


@pytest.mark.parametrize("name", DOORS)
def test_whatever_comes_a_decoder_says_so_in_its_own_words(name: str) -> None:
    @settings(max_examples=EXAMPLES, database=None)
    @given(bytes_of_all_kinds)
    def any_bytes(raw: bytes) -> None:
        require_words(DOORS[name], raw)

    any_bytes()


def _bombs() -> dict[str, bytes]:
    deep, wide = 100_000, 20_000
    message = b'{"type":"result","seq":1,"id":"a","state":"DONE","at_us":1,"data":'
    return {
        "deep lists": b"[" * deep + b"]" * deep,
        "deep objects": b'{"a":' * deep + b"1" + b"}" * deep,
        "deep and never closed": b"[" * deep,
        "deep in a field": message + b"[" * deep + b"]" * deep + b"}",
        "deep where nobody looks": message + b'1,"x":' + b"[" * deep + b"]" * deep + b"}",
        "just below the parser's own bound": b'{"x":' + b"[" * 950 + b"]" * 950 + b"}",
        "above it": b'{"x":' + b"[" * 1200 + b"]" * 1200 + b"}",
        "a giant number": b'{"at_us":' + b"9" * deep + b"}",
        "a number beyond all": b'{"at_us":1e999999999,"iat":1e999999999,"seq":-1e-999999999}',
        "a giant string": b'{"id":"' + b"a" * deep + b'"}',
        "escapes": b'{"id":"' + b"\\u0000" * wide + b'"}',
        "lone surrogates": b'{"id":"\\ud800\\udc00\\ud800","key":"\\udfff"}',
        "many keys": b"{" + b",".join(b'"%d":1' % at for at in range(wide)) + b"}",
        "one key many times": b"{" + b",".join([b'"id":"a"'] * wide) + b"}",
        "many items": b"[" + b",".join([b"0"] * wide) + b"]",
        "no UTF-8": b'{"id":"\xff\xfe\xfd"}',
        "nothing": b"",
        "blanks": b" " * deep,
        "a byte-order mark": b"\xef\xbb\xbf{}",
        "dots": b"." * 5_000,
        "tables in tables": b"[a" + b".a" * 2_000 + b"]\nb = 1\n",
        "arrays in TOML": b"a = " + b"[" * 3_000 + b"]" * 3_000,
    }


BOMBS = _bombs()


@pytest.mark.parametrize("name", DOORS)
def test_no_bomb_breaks_a_decoder_or_fills_the_memory(name: str) -> None:
    for how, raw in BOMBS.items():
        tracemalloc.start()
        try:
            require_words(DOORS[name], raw)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < MEMORY_MAX + MEMORY_PER_BYTE_MAX * len(raw), how


def test_a_decoder_that_breaks_is_found() -> None:
    broken = Door(lambda raw: msgspec.json.decode(raw), (msgspec.DecodeError, UnicodeDecodeError))
    with pytest.raises(RecursionError):
        require_words(broken, BOMBS["deep lists"])


def test_a_good_message_is_decoded() -> None:
    """What is fuzzed is what runs: a good one of each kind passes."""
    frame = codec.decode_up(
        sealed(b"up", in_frame(b'{"type":"result","seq":1,"id":"a","state":"DONE","at_us":1}')), "g", KEY
    )
    assert len(frame.messages) == 1
    assert verify(signed(b"{}"), {"k": public_jwk(SIGNER.public_key())}, "grant") == b"{}"
    assert webhook(b'{"type":"endpoint.challenge","challenge":"c"}')
    checked: Any = read_ask(b'{"operation":"read","device":"TH-1"}')
    assert checked.device == "TH-1"
