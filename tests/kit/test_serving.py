import pytest

from doorward.kit.serving import listen

HOST = "127.0.0.1"


def test_processes_of_ours_may_listen_on_one_port() -> None:
    with listen(HOST, 0, shared=True) as first:
        port = first.getsockname()[1]
        with listen(HOST, port, shared=True) as second:
            assert second.getsockname()[1] == port


def test_a_port_that_is_not_shared_is_taken_once() -> None:
    with listen(HOST, 0) as first, pytest.raises(OSError, match="in use"):
        listen(HOST, first.getsockname()[1])
