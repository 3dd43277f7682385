"""Files are whole or not there."""

from pathlib import Path

import pytest

from doorward.kit.files import OWNER_ONLY, write_atomically


def test_a_file_is_replaced_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "secret"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == OWNER_ONLY
    assert [each.name for each in path.parent.iterdir()] == ["secret"]


def test_a_write_that_fails_leaves_the_old_bytes(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_atomically(path, b"one")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"one"
