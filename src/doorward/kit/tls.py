"""TLS as both ends of a link use it: version 1.3, one private authority, a certificate on each side."""

import ssl
from dataclasses import dataclass
from pathlib import Path

NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""
NOT_YET_VALID = 9
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID."""


def clock_is_behind(error: BaseException) -> bool:
    """Whether a connection failed because the server's certificate is not valid yet: our clock is behind."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == NOT_YET_VALID


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


def client_context(
    ca: str, credentials: Credentials | None = None, *, knows_time: bool = True
) -> ssl.SSLContext:
    """Return a context that checks the server's certificate and name, and shows ours where there is one.

    Without ``knows_time`` the certificate's dates are not looked at: for one whose clock is behind, and who
    has nobody but that server to ask for the time.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, ca)
    if not knows_time:
        context.verify_flags |= NO_CHECK_TIME
    if credentials is not None:
        context.load_cert_chain(credentials.certificate, credentials.key)
    return context
