"""People: who they are, how they prove it, and what a wrong password costs. Times are UTC microseconds."""

from enum import StrEnum
from typing import Literal

import msgspec
from msgspec.structs import replace

MINUTE_US = 60_000_000
TRIES_MAX = 5
"""Wrong passwords in a row after which an account is locked for :data:`LOCKED_US`."""
LOCKED_US = 15 * MINUTE_US
PASSWORD_CHARS_MIN = 12
PASSWORD_CHARS_MAX = 256
SESSION_US = {True: 8 * 60 * MINUTE_US, False: 12 * 60 * MINUTE_US}
"""How long a session lasts, for staff and for everybody else."""


class Role(StrEnum):
    """What somebody is to the utility. What each may do stands in ``rights``."""

    CUSTOMER = "customer"
    REPRESENTATIVE = "representative"
    OPERATOR = "operator"
    DEVELOPER = "developer"
    VENDOR = "vendor"
    AUDITOR = "auditor"

    @property
    def is_staff(self) -> bool:
        """Whether the utility employs or hired them: their looks at customers' data are shown to customers."""
        return self in (Role.REPRESENTATIVE, Role.OPERATOR, Role.AUDITOR)


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who can sign in.

    ``of`` is whom they act for: a customer's id, a third party's id, a vendor's name; ``""`` for staff.
    ``password`` is an Argon2 hash, or ``""`` where only one-time links let in.
    """

    id: str
    role: Role
    name: str
    login: str
    of: str = ""
    email: str = ""
    password: str = ""
    state: Literal["active", "disabled"] = "active"
    failed: int = 0
    locked_until_us: int = 0
    created_us: int = 0
    fahrenheit: bool = False


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in browser. ``id`` is the SHA-256 of what its cookie holds, in hex."""

    id: str
    person: str
    created_us: int
    until_us: int


def may_try(person: Person, now_us: int) -> bool:
    """Whether a password is looked at now: not while locked, nor for somebody who may not come in."""
    return person.state == "active" and now_us >= person.locked_until_us


def tried(person: Person, right: bool, now_us: int) -> Person:
    """Return the person after a password was tried: counted, locked after too many, or forgiven."""
    if right:
        return replace(person, failed=0, locked_until_us=0)
    failed = person.failed + 1
    if failed >= TRIES_MAX:
        return replace(person, failed=0, locked_until_us=now_us + LOCKED_US)
    return replace(person, failed=failed)


def weak(password: str, person: Person) -> str:
    """Return in words what is wrong with a new password, ``""`` when nothing is (NIST 800-63B: length counts)."""
    if len(password) < PASSWORD_CHARS_MIN:
        return f"Use at least {PASSWORD_CHARS_MIN} characters; a few words are fine."
    if len(password) > PASSWORD_CHARS_MAX:
        return f"Use at most {PASSWORD_CHARS_MAX} characters."
    if len(set(password)) < 5 or password.casefold() in (person.login.casefold(), person.name.casefold()):
        return "That is too easy to guess."
    return ""
