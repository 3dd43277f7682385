"""Frames to bytes and back: 32 bytes of HMAC-SHA256, then JSON.

The MAC is under the gateway's own key and covers the direction, so that neither a broker nor a
reflected frame can pass for the other side. Size and depth are bounded before parsing.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

import msgspec

from doorward.wire.chain import Head
from doorward.wire.messages import WIRE_VERSION, Down, FrameDown, FrameUp, Up
from doorward.wire.reasons import Reason, Refused

FrameT = TypeVar("FrameT", FrameDown, FrameUp)

MAC_BYTES = 32
FRAME_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 24
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, for text that is no UTF-8, and for what nests too deep."""

_encoder = msgspec.json.Encoder()
_down = msgspec.json.Decoder(FrameDown)
_up = msgspec.json.Decoder(FrameUp)


def gateway_key(master: bytes, gateway: str, generation: int) -> bytes:
    """Derive a gateway's MAC key: HMAC-SHA256(master, "doorward-link" | gateway | generation).

    The CCS holds ``master``; the gateway receives its own 32 bytes once, at enrolment.
    """
    return hmac.digest(master, f"doorward-link|{gateway}|{generation}".encode(), "sha256")


def _seal(direction: bytes, payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, direction + payload, sha256) + payload


def _open(direction: bytes, raw: bytes, key: bytes) -> memoryview:
    if len(raw) > FRAME_BYTES_MAX:
        raise Refused(Reason.BODY_TOO_LARGE, f"frame of {len(raw)} bytes")
    if len(raw) <= MAC_BYTES:
        raise Refused(Reason.BODY_MALFORMED, "frame too short")
    payload = memoryview(raw)[MAC_BYTES:]
    if not hmac.compare_digest(hmac.digest(key, direction + bytes(payload), sha256), raw[:MAC_BYTES]):
        raise Refused(Reason.FORGED, "the frame's MAC does not verify")
    return payload


def depth_within(raw: bytes | memoryview, depth_max: int = DEPTH_MAX) -> bool:
    """Whether JSON text nests no deeper than ``depth_max``; strings are honoured, nothing is parsed."""
    data = bytes(raw)
    if data.count(b"{") + data.count(b"[") <= depth_max:
        return True
    depth = 0
    in_string = escaped = False
    for byte in data:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"{[":
            depth += 1
            if depth > depth_max:
                return False
        elif byte in b"}]":
            depth -= 1
    return True


def encode_down(
    gateway: str,
    epoch: int,
    counter: int,
    messages: list[Down],
    key: bytes,
    *,
    heads: Sequence[Head] = (),
    checkpoint: str = "",
) -> bytes:
    """Return the bytes of a frame from the CCS."""
    frame = FrameDown(
        v=WIRE_VERSION,
        gateway=gateway,
        epoch=epoch,
        counter=counter,
        messages=messages,
        heads=list(heads),
        checkpoint=checkpoint,
    )
    return _seal(b"down", _encoder.encode(frame), key)


def encode_up(
    gateway: str, epoch: int, counter: int, messages: list[Up], key: bytes, *, head: Head | None = None
) -> bytes:
    """Return the bytes of a frame from a gateway."""
    frame = FrameUp(
        v=WIRE_VERSION, gateway=gateway, epoch=epoch, counter=counter, messages=messages, head=head
    )
    return _seal(b"up", _encoder.encode(frame), key)


def decode_down(raw: bytes, gateway: str, key: bytes) -> FrameDown:
    """Open a frame at the gateway; raise :class:`Refused` (forged, malformed, too large)."""
    try:
        frame = _down.decode(_open(b"down", raw, key))
    except NOT_JSON as error:
        raise Refused(Reason.BODY_MALFORMED, f"frame: {error}") from None
    return _checked(frame, gateway)


def decode_up(raw: bytes, gateway: str, key: bytes) -> FrameUp:
    """Open a frame at the CCS that came on the connection of ``gateway``; raise :class:`Refused`."""
    try:
        frame = _up.decode(_open(b"up", raw, key))
    except NOT_JSON as error:
        raise Refused(Reason.BODY_MALFORMED, f"frame: {error}") from None
    return _checked(frame, gateway)


def _checked(frame: FrameT, gateway: str) -> FrameT:
    if frame.gateway != gateway:
        raise Refused(Reason.FORGED, f"frame names gateway {frame.gateway!r}")
    if frame.v != WIRE_VERSION:
        raise Refused(Reason.BODY_MALFORMED, f"unknown wire version {frame.v}")
    return frame
