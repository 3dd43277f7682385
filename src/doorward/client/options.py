"""What both clients are made from, and how the TLS of the CCS is trusted."""

import random
import ssl
from collections.abc import Sequence

import httpx2

from doorward.client.core import Core
from doorward.client.defaults import real_clock, real_dice
from doorward.client.keys import PrivateKey, fresh_key, proof_of, signing_key
from doorward.client.talk import HttpRequest
from doorward.kit.clock import Clock

CONNECT_S_MAX = 5.0
ANSWER_S_MAX = 15.0
"""How long an answer may take beyond what was asked to wait."""
STREAM_SILENT_S_MAX = 60.0
"""A stream without even a keep-alive for so long is opened anew."""
SCOPES = ("monitor", "control")


def core_of(
    base_url: str,
    client_id: str,
    client_secret: str | None,
    private_key: PrivateKey | None,
    key_id: str,
    command_key: PrivateKey | None,
    command_key_id: str,
    scopes: Sequence[str],
    clock: Clock | None,
    rng: random.Random | None,
    *,
    dpop: bool,
) -> Core:
    """Return the core of a client; raise ``ValueError`` for options that do not go together."""
    return Core(
        base_url,
        client_id,
        proof_of(client_id, client_secret, private_key, key_id),
        scopes=scopes,
        token_key=fresh_key() if dpop else None,
        command_key=signing_key(command_key, command_key_id) if command_key is not None else None,
        clock=clock or real_clock(),
        rng=rng or real_dice(),
    )


def trust(ca: str | None, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
    """Return TLS settings: the system's authorities, or only those in ``ca`` (a path or PEM text).

    ``certificate`` is ours to show: the paths of its chain and of its key, in PEM.
    """
    if ca is None:
        context = ssl.create_default_context()
    elif "-----BEGIN" in ca:
        context = ssl.create_default_context(cadata=ca)
    else:
        context = ssl.create_default_context(cafile=ca)
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


def timeout_of(request: HttpRequest) -> httpx2.Timeout:
    """Return the time-outs of a request."""
    return httpx2.Timeout(request.wait_s + ANSWER_S_MAX, connect=CONNECT_S_MAX)


STREAM_TIMEOUT = httpx2.Timeout(ANSWER_S_MAX, connect=CONNECT_S_MAX, read=STREAM_SILENT_S_MAX)
