"""A client whose clock is behind can tell so from the server's certificate, and connect to ask for the time."""

import ssl
from pathlib import Path

import pytest

from doorward.ccs.engines.authority import CertificateAuthority
from doorward.kit.tls import client_context, clock_is_behind

SOON_US = 4_000_000_000_000_000
"""In the year 2096: seen from there, every machine's clock is behind."""


def shake_hands(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext, name: str) -> None:
    """A whole handshake in memory; raise what the client raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_tls.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_tls.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def server_of(authority: CertificateAuthority) -> ssl.SSLContext:
    made = authority.server("link", ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context


def test_a_certificate_that_is_not_valid_yet_says_that_our_clock_is_behind(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path, lambda: SOON_US)
    with pytest.raises(ssl.SSLCertVerificationError) as failed:
        shake_hands(client_context(authority.pem), server_of(authority), "localhost")
    assert clock_is_behind(failed.value)
    shake_hands(client_context(authority.pem, knows_time=False), server_of(authority), "localhost")


def test_without_the_time_authority_and_name_are_checked_all_the_same(tmp_path: Path) -> None:
    ours, another = (CertificateAuthority(tmp_path / name, lambda: SOON_US) for name in ("a", "b"))
    for context, name in ((client_context(another.pem, knows_time=False), "localhost"),
                          (client_context(ours.pem, knows_time=False), "elsewhere")):  # fmt: skip
        with pytest.raises(ssl.SSLCertVerificationError) as failed:
            shake_hands(context, server_of(ours), name)
        assert not clock_is_behind(failed.value)
