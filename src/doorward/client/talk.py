"""The words between the core and a shell: what a conversation asks for, and what it is given.

A conversation is a generator: it yields effects, a shell carries each out and sends the outcome back.
So every decision is made once, and the synchronous and the asynchronous client only carry out.
"""

from collections.abc import Generator
from typing import TypeVar

import msgspec

T = TypeVar("T")


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP request to make. ``wait_s`` is how long the server may take on purpose."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None = None
    wait_s: float = 0.0


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Broken(msgspec.Struct, frozen=True):
    """No answer: the connection could not be made, broke or timed out."""

    why: str


class Send(msgspec.Struct, frozen=True):
    """Make this request; the outcome is an :class:`HttpAnswer` or :class:`Broken`."""

    request: HttpRequest


class Pause(msgspec.Struct, frozen=True):
    """Wait; the outcome is nothing."""

    seconds: float


class Renew(msgspec.Struct, frozen=True):
    """Get a token in the place of ``stale``, one caller at a time; the outcome is nothing."""

    stale: str


Effect = Send | Pause | Renew
Outcome = HttpAnswer | Broken | None
Conversation = Generator[Effect, Outcome, T]
