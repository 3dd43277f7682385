"""What is kept about a home besides its messages: changes of access, and looks and refusals. All dated."""

from typing import Literal

import msgspec

from doorward.ccs.rules.people import Person, Role

ChangeKind = Literal["granted", "changed", "paused", "resumed", "withdrawn", "ended"]
NoteKind = Literal["look", "act", "refused", "contract"]


class AccessChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a third party's access, which is also its receipt (S3.05–S3.08).

    ``id`` is a UUIDv7. ``at_us`` is when the CCS decided so and began to obey; the gateway has it when
    ``applied_us`` is not 0, or could not take it for the reason ``failed``. ``gateway_version`` is the
    version of its desired state that carries the change. ``asked_us`` is when somebody asked.
    """

    id: str
    kind: ChangeKind
    party: str
    service_point: str
    grant: str
    version: int
    at_us: int
    asked_us: int
    by: str
    """A person's id, ``file``, ``contract``, ``service off``."""
    by_name: str = ""
    by_role: str = ""
    why: str = ""
    words: list[str] = []
    """What changed, in sentences."""
    contract: str = ""
    gateway: str = ""
    gateway_version: int = 0
    applied_us: int = 0
    failed: str = ""


class HomeNote(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is shown in a home's activity and is no message: a look by staff, a refused attempt.

    ``id`` is a UUIDv7; for a refused attempt it is the message's.
    """

    id: str
    service_point: str
    kind: NoteKind
    at_us: int
    words: str
    by: str = ""
    by_name: str = ""
    by_role: str = ""
    party: str = ""
    device: str = ""
    why: str = ""


class PartyNote(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody of a third party did with what is theirs: a secret made, an endpoint changed."""

    id: str
    party: str
    at_us: int
    words: str
    by: str = ""
    by_name: str = ""


def look(id: str, person: Person, service_point: str, at: str, why: str, now_us: int) -> HomeNote:
    """Return the note that somebody of the utility looked at a home."""
    return HomeNote(
        id=id,
        service_point=service_point,
        kind="look",
        at_us=now_us,
        words=f"{ROLE_WORDS[person.role]} looked at {at}",
        by=person.id,
        by_name=person.name,
        by_role=person.role,
        why=why,
    )


ROLE_WORDS: dict[Role, str] = {
    Role.CUSTOMER: "Somebody of this household",
    Role.REPRESENTATIVE: "A customer representative",
    Role.OPERATOR: "An operator of the utility",
    Role.DEVELOPER: "The company",
    Role.VENDOR: "A gateway vendor",
    Role.AUDITOR: "An auditor",
}
"""Role → who that is, to a customer."""
