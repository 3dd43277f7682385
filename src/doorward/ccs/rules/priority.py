"""Who goes first. The platform derives the class; a sender alone never does (F05, F19, B03).

Smaller is more urgent: 0 utility urgent, 1 utility, from 10 third parties by tier and own wish.
"""

from doorward.ccs.rules.facts import Tier
from doorward.wire.grants import GrantDocument
from doorward.wire.vocabulary import THIRD_PARTY_CLASS, Wish

UTILITY_URGENT = 0
UTILITY = 1
THIRD_PARTY = THIRD_PARTY_CLASS

_WISH = {Wish.HIGH: 0, Wish.NORMAL: 1, Wish.LOW: 2}


def class_of(document: GrantDocument, tier: Tier, wish: Wish) -> int:
    """Return the class of a message: the utility's only under the utility's own, signed grant (B03, F05)."""
    if document.utility:
        return UTILITY_URGENT if wish is Wish.HIGH else UTILITY
    return third_party_class(tier, wish)


def third_party_class(tier: Tier, wish: Wish) -> int:
    """Return the class of a third party's message: its tier's top, less what its wish gives up."""
    return THIRD_PARTY + tier.top_priority + _WISH[wish]
