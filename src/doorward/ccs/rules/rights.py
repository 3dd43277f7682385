"""What each role may do: one closed table. Whatever is not in it is refused.

A page names its act, and asks :func:`reach` once; ``OWN`` means the person's own home, company or
equipment, and whoever serves the page looks nothing up outside of it.
"""

from enum import StrEnum
from types import MappingProxyType

from doorward.ccs.rules.people import Person, Role


class Act(StrEnum):
    """One kind of thing that people do here."""

    SEE_HOME = "see_home"
    CHANGE_ACCESS = "change_access"
    DRAFT_CONTRACT = "draft_contract"
    SIGN_CONTRACT = "sign_contract"
    APPROVE_CONTRACT = "approve_contract"
    TURN_SERVICE = "turn_service"
    SEE_JOURNEY = "see_journey"
    FIND_CUSTOMERS = "find_customers"
    TEST_HOME = "test_home"
    SEE_FLEET = "see_fleet"
    CHANGE_FLEET = "change_fleet"
    SEE_COMPANY = "see_company"
    CHANGE_COMPANY = "change_company"
    SEE_ENROLMENTS = "see_enrolments"
    SEE_RECORDS = "see_records"
    CHANGE_PEOPLE = "change_people"
    CHANGE_OWN_SETTINGS = "change_own_settings"


class Reach(StrEnum):
    """How far an act goes."""

    OWN = "own"
    ANY = "any"


RIGHTS: MappingProxyType[Role, MappingProxyType[Act, Reach]] = MappingProxyType(
    {
        Role.CUSTOMER: MappingProxyType(
            {
                Act.SEE_HOME: Reach.OWN,
                Act.CHANGE_ACCESS: Reach.OWN,
                Act.DRAFT_CONTRACT: Reach.OWN,
                Act.SIGN_CONTRACT: Reach.OWN,
                Act.SEE_JOURNEY: Reach.OWN,
                Act.CHANGE_OWN_SETTINGS: Reach.OWN,
            }
        ),
        Role.REPRESENTATIVE: MappingProxyType(
            {
                Act.SEE_HOME: Reach.ANY,
                Act.CHANGE_ACCESS: Reach.ANY,
                Act.DRAFT_CONTRACT: Reach.ANY,
                Act.SIGN_CONTRACT: Reach.ANY,
                Act.APPROVE_CONTRACT: Reach.ANY,
                Act.TURN_SERVICE: Reach.ANY,
                Act.SEE_JOURNEY: Reach.ANY,
                Act.FIND_CUSTOMERS: Reach.ANY,
                Act.TEST_HOME: Reach.ANY,
                Act.CHANGE_OWN_SETTINGS: Reach.OWN,
            }
        ),
        Role.OPERATOR: MappingProxyType(
            {
                Act.APPROVE_CONTRACT: Reach.ANY,
                Act.TURN_SERVICE: Reach.ANY,
                Act.SEE_JOURNEY: Reach.ANY,
                Act.TEST_HOME: Reach.ANY,
                Act.SEE_FLEET: Reach.ANY,
                Act.CHANGE_FLEET: Reach.ANY,
                Act.SEE_RECORDS: Reach.ANY,
                Act.CHANGE_PEOPLE: Reach.ANY,
                Act.CHANGE_OWN_SETTINGS: Reach.OWN,
            }
        ),
        Role.DEVELOPER: MappingProxyType(
            {
                Act.SEE_JOURNEY: Reach.OWN,
                Act.DRAFT_CONTRACT: Reach.OWN,
                Act.SEE_COMPANY: Reach.OWN,
                Act.CHANGE_COMPANY: Reach.OWN,
                Act.CHANGE_OWN_SETTINGS: Reach.OWN,
            }
        ),
        Role.VENDOR: MappingProxyType({Act.SEE_ENROLMENTS: Reach.OWN, Act.CHANGE_OWN_SETTINGS: Reach.OWN}),
        Role.AUDITOR: MappingProxyType(
            {
                Act.SEE_JOURNEY: Reach.ANY,
                Act.SEE_RECORDS: Reach.ANY,
                Act.CHANGE_OWN_SETTINGS: Reach.OWN,
            }
        ),
    }
)
"""Role → act → how far."""


def reach(person: Person, act: Act) -> Reach | None:
    """Return how far a person may do something, ``None`` when not at all."""
    return RIGHTS[person.role].get(act)
