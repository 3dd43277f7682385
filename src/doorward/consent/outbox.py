"""How the authority reaches a customer, past the CCS: by mail, or into a file (the demo)."""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

import msgspec

SMTP_WAIT_S_MAX = 20.0


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one customer."""

    to: str
    subject: str
    text: str


class Outbox(Protocol):
    """Sends letters. ``send`` returns when the letter is out of our hands, and raises ``OSError`` otherwise."""

    async def send(self, letter: Letter) -> None:
        """Send one letter."""
        ...


class FileOutbox:
    """Appends letters to a file that only its owner reads, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, letter: Letter) -> None:
        """Append the letter."""
        self._path.touch(mode=0o600)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(letter) + b"\n")


class SmtpOutbox:
    """Sends letters through a mail server, over TLS (STARTTLS) unless the server is on this machine."""

    def __init__(self, host: str, port: int, sender: str, user: str = "", password: str = "") -> None:
        self._host = host
        self._port = port
        self._sender = sender
        self._login = (user, password)

    async def send(self, letter: Letter) -> None:
        """Send the letter; raises ``OSError`` (``SMTPException`` is one)."""
        await asyncio.to_thread(self._send, letter)

    def _send(self, letter: Letter) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, letter.to, letter.subject
        mail.set_content(letter.text)
        with smtplib.SMTP(self._host, self._port, timeout=SMTP_WAIT_S_MAX) as server:
            if self._host not in ("localhost", "127.0.0.1", "::1"):
                server.starttls(context=ssl.create_default_context())
            if self._login[0]:
                server.login(*self._login)
            server.send_message(mail)
