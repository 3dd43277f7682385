"""Frames: what was sealed for one gateway and one direction opens nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward.wire import codec
from doorward.wire.messages import Ack, Hello, Time
from doorward.wire.reasons import Reason, Refused

KEY = codec.gateway_key(b"m" * 32, "SPG-1", 1)
OTHER = codec.gateway_key(b"m" * 32, "SPG-2", 1)


def test_a_frame_comes_out_as_it_went_in() -> None:
    raw = codec.encode_down("SPG-1", 7, 9, [Time(at_us=5), Ack(seqs=[1, 2])], KEY)
    frame = codec.decode_down(raw, "SPG-1", KEY)
    assert (frame.epoch, frame.counter) == (7, 9)
    assert frame.messages == [Time(at_us=5), Ack(seqs=[1, 2])]


@given(bit=st.integers(min_value=0))
def test_any_flipped_bit_is_noticed(bit: int) -> None:
    raw = bytearray(codec.encode_down("SPG-1", 1, 1, [Time(at_us=5)], KEY))
    bit %= len(raw) * 8
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refused) as refused:
        codec.decode_down(bytes(raw), "SPG-1", KEY)
    assert refused.value.reason is Reason.FORGED


def test_a_frame_of_another_gateway_is_forged() -> None:
    raw = codec.encode_down("SPG-2", 1, 1, [Time(at_us=5)], OTHER)
    for name in ("SPG-1", "SPG-2"):
        with pytest.raises(Refused) as refused:
            codec.decode_down(raw, name, KEY)
        assert refused.value.reason is Reason.FORGED


def test_a_frame_thrown_back_at_its_sender_is_forged() -> None:
    raw = codec.encode_down("SPG-1", 1, 1, [Time(at_us=5)], KEY)
    with pytest.raises(Refused) as refused:
        codec.decode_up(raw, "SPG-1", KEY)
    assert refused.value.reason is Reason.FORGED


def test_an_older_key_generation_opens_nothing() -> None:
    raw = codec.encode_up(
        "SPG-1", 1, 1, [Hello(gateway="SPG-1", boot=1, software="t", provision_version=0)], KEY
    )
    with pytest.raises(Refused):
        codec.decode_up(raw, "SPG-1", codec.gateway_key(b"m" * 32, "SPG-1", 2))


@given(raw=st.binary(max_size=300))
def test_noise_is_refused_with_a_reason(raw: bytes) -> None:
    with pytest.raises(Refused) as refused:
        codec.decode_up(raw, "SPG-1", KEY)
    assert refused.value.reason in (Reason.FORGED, Reason.BODY_MALFORMED)


@pytest.mark.parametrize(
    ("text", "within"),
    [
        (b"[" * 24 + b"]" * 24, True),
        (b"[" * 25 + b"]" * 25, False),
        (b'{"a":"' + b"[" * 100 + b'"}', True),
        (b'{"a":"\\"' + b"{" * 100 + b'"}', True),
        (b"[]" * 100, True),
    ],
)
def test_depth_is_judged_outside_strings(text: bytes, within: bool) -> None:
    assert codec.depth_within(text) is within
