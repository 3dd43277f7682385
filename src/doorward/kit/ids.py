"""UUIDv7 (RFC 9562): time-ordered, so that an index grows at its end."""

import random


def uuid7(now_us: int, rng: random.Random) -> str:
    """Return a UUIDv7 of ``now_us``: 48 bits of milliseconds, 12 of sub-millisecond time, 62 random."""
    millis, rest = divmod(now_us, 1000)
    value = (millis & 0xFFFFFFFFFFFF) << 80
    value |= 0x7 << 76 | ((rest << 12) // 1000 & 0xFFF) << 64
    value |= 0b10 << 62 | rng.getrandbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def before_uuid7(at_us: int) -> str:
    """Return a text that sorts before every UUIDv7 made at ``at_us`` or later, and after all earlier ones."""
    text = f"{max(0, at_us) // 1000:012x}"
    return f"{text[:8]}-{text[8:]}-"


def time_of_us(uuid: str) -> int:
    """Return the UTC microseconds (to the millisecond) at which a UUIDv7 was made."""
    return int(uuid[:8] + uuid[9:13], 16) * 1000
