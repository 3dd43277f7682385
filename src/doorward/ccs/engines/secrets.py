"""Secrets of sandbox clients: Argon2 hashes, checked on a few threads, and never twice within a process."""

import asyncio
import hmac
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from doorward.kit.gather import Overloaded

THREADS = 2
WAITING_MAX = 64
"""Checks that wait for a thread; beyond that the caller is told to come again."""
VERIFIED_MAX = 10_000


class SecretHasher:
    """Hashes and checks secrets. ``key`` (random, this process's own) names those that were right.

    One that was right once is known again by an HMAC over hash and secret, so that a client that asks for
    token after token does not cost an Argon2 each; a changed hash is a new name.
    """

    def __init__(self, key: bytes, *, threads: int = THREADS, hasher: PasswordHasher | None = None) -> None:
        self._key = key
        self._hasher = hasher or PasswordHasher()
        self._pool = ThreadPoolExecutor(threads, "secrets")
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._running = 0
        self._dummy = self._hasher.hash(key.hex())

    def hash(self, secret: str) -> str:
        """Return the Argon2id hash of a secret; takes tens of milliseconds."""
        return self._hasher.hash(secret)

    async def hashed(self, secret: str) -> str:
        """Return the Argon2id hash of a secret, made on one of the threads.

        Raises :class:`Overloaded` when too many wait already.
        """
        if self._running >= WAITING_MAX:
            raise Overloaded("too many secrets are being checked")
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self.hash, secret)
        finally:
            self._running -= 1

    async def matches(self, hashed: str, secret: str) -> bool:
        """Whether the secret belongs to the hash. ``""`` never does, and costs the same.

        Raises :class:`Overloaded` when too many wait already.
        """
        name = hmac.digest(self._key, f"{hashed}|{secret}".encode(), "sha256")
        if name in self._verified:
            return True
        if self._running >= WAITING_MAX:
            raise Overloaded("too many secrets are being checked")
        self._running += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._pool, self._verify, hashed or self._dummy, secret)
        finally:
            self._running -= 1
        if not right or not hashed:
            return False
        self._verified[name] = None
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return True

    def _verify(self, hashed: str, secret: str) -> bool:
        try:
            return self._hasher.verify(hashed, secret)
        except (VerificationError, InvalidHashError):
            return False

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)
