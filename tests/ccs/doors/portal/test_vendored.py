"""What was taken from others is what it was when it was taken, and comes from here."""

import hashlib

import pytest

from doorward.ccs.doors.portal.rendering import SHA256, STATIC


def test_every_script_is_a_vendored_one() -> None:
    assert {file.name for file in STATIC.glob("*.js")} == set(SHA256)


@pytest.mark.parametrize("name", sorted(SHA256))
def test_a_vendored_script_is_unchanged(name: str) -> None:
    assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == SHA256[name]
