"""TLS as both ends of a link use it: version 1.3, one private authority, a certificate on each side."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Credentials:
    """Who we are and whom we trust: PEM files of our certificate and key, and the authority as PEM text."""

    certificate: Path
    key: Path
    ca: str


def _context(protocol: int, ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """Return a context that demands a client certificate (with that usage) from the authority."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, credentials.ca)
    context.load_cert_chain(credentials.certificate, credentials.key)
    context.verify_mode = ssl.CERT_REQUIRED
    # asyncio cannot resume a session, so a ticket would be work for nothing at every connection.
    context.num_tickets = 0
    return context


def client_context(ca: str, credentials: Credentials | None = None) -> ssl.SSLContext:
    """Return a context that checks the server's certificate and name, and shows ours where there is one."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, ca)
    if credentials is not None:
        context.load_cert_chain(credentials.certificate, credentials.key)
    return context
