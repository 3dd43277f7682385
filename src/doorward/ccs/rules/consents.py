"""What a consent authority apart answers."""

import msgspec


class GivenGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What a consent authority gives for a permission: two compact JWS."""

    grant: str
    document: str
    lease: str


class Renewals(msgspec.Struct, frozen=True, kw_only=True):
    """New leases by grant; versions of those that have ended; and those that the authority does not know so."""

    leases: dict[str, str] = {}
    ended: dict[str, int] = {}
    unknown: list[str] = []
    documents: dict[str, str] = {}
    """Grants signed anew, after the authority changed its key."""


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """Permissions that ended at the authority, up to ``next``; ``told`` is up to where we have told it of ours."""

    next: int
    grants: dict[str, int]
    told: int
