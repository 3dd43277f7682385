"""The consent authority, put together: the only file that knows everybody."""

import random
import socket
import time
from pathlib import Path

import msgspec

from doorward.consent.desk import ConsentDesk
from doorward.consent.door import consent_app
from doorward.consent.keys import AuthorityKey
from doorward.consent.outbox import FileOutbox, Outbox, SmtpOutbox
from doorward.consent.register import Register
from doorward.consent.settings import OPERATORS_FILE, OUTBOX_FILE, ConsentSettings
from doorward.kit.clock import SlewingClock
from doorward.kit.serving import HttpServer, listen
from doorward.kit.tls import Credentials
from doorward.wire.signatures import key_from_jwk


class ConsentApp:
    """The running authority. ``credentials`` are its server's, and the authority of its clients' certificates."""

    def __init__(
        self,
        settings: ConsentSettings,
        credentials: Credentials,
        client_ca: Path,
        rng: random.Random,
    ) -> None:
        if not isinstance(rng, random.SystemRandom):
            raise ValueError("the consent authority needs the system's randomness: codes come from it")
        self._settings = settings
        self.key = AuthorityKey(settings.dir)
        self._register = Register(settings.dir)
        listening = listen(settings.host, settings.port)
        self.url = settings.public_url.rstrip("/") or _url(settings, listening)
        self.desk = ConsentDesk(
            self._register,
            self.key,
            _outbox(settings),
            lambda: operators(settings.dir / OPERATORS_FILE),
            SlewingClock(time.time, time.monotonic),
            rng,
            self.url,
        )
        self._server = HttpServer(
            consent_app(self.desk, self.key),
            listening,
            certificate=credentials.certificate,
            key=credentials.key,
            client_ca=client_ca,
            stop_wait_s_max=settings.stop_wait_s_max,
        )

    async def start(self) -> None:
        """Serve, and return when calls are taken."""
        await self._server.start()

    async def stop(self) -> None:
        """Finish what runs, then close."""
        await self._server.stop()
        await self._register.close()


def operators(path: Path) -> dict[str, dict[str, str]]:
    """Return the operators' public keys (``kid`` → JWK) of a JWK Set; none where there is no file.

    Read at every use, so that a key that is taken out counts no more at once. Raises ``ValueError``.
    """
    if not path.exists():
        return {}
    found: dict[str, dict[str, str]] = {}
    try:
        for key in msgspec.json.decode(path.read_bytes(), type=dict[str, list[dict[str, str]]])["keys"]:
            jwk = {name: key[name] for name in ("kty", "crv", "x")}
            key_from_jwk(jwk)
            found[key["kid"]] = jwk
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a JWK Set of Ed25519 keys with 'kid': {error}") from None
    return found


def _outbox(settings: ConsentSettings) -> Outbox:
    if not settings.smtp_host:
        return FileOutbox(settings.dir / OUTBOX_FILE)
    return SmtpOutbox(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_from,
        settings.smtp_user,
        settings.smtp_password,
    )


def _url(settings: ConsentSettings, listening: socket.socket) -> str:
    host = settings.hosts[0]
    return f"https://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
