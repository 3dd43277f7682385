"""What a home is found by: the words of what belongs to it, as they are kept and as they are asked for."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

from doorward.wire.reasons import Reason, Refused

Found = Literal["customer", "account", "service_point", "device"]
"""Kinds of things whose words are kept."""

ASKED_MAX = 4
"""Words of one search; each narrows it."""
ASKED_CHARS_MIN = 2
ASKED_CHARS_MAX = 100
WORD_CHARS_MAX = 80
KEPT_MAX = 40
"""Words that are kept of one thing."""
LAST = "\U0010ffff"
"""After it no word begins."""

_EDGES = "\"'.,;:()[]<>#"
_PART = re.compile(r"\w+")


def folded(text: str) -> str:
    """Return text without case and accents, so that ``jose`` finds ``José``."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in plain if not unicodedata.combining(each) and each.isprintable())


def words_of(texts: Iterable[str]) -> list[str]:
    """Return what texts are found by: each word from each of its parts on (``o'brien``, ``brien``)."""
    found: dict[str, None] = {}
    for text in texts:
        for word in _split(text):
            for part in _PART.finditer(word):
                found[word[part.start() :][:WORD_CHARS_MAX]] = None
    return list(found)[:KEPT_MAX]


def asked(text: str) -> list[str]:
    """Return the words of a search, each the beginning of a word that is kept.

    Raises ``body-malformed`` for a search that is too short, too long, or of too many words.
    """
    if len(text) > ASKED_CHARS_MAX:
        raise Refused(Reason.BODY_MALFORMED, f"write at most {ASKED_CHARS_MAX} characters", field="/q")
    found = list(dict.fromkeys(_split(text)))
    if max(map(len, found), default=0) < ASKED_CHARS_MIN:
        raise Refused(
            Reason.BODY_MALFORMED, f"write at least {ASKED_CHARS_MIN} letters or digits", field="/q"
        )
    if len(found) > ASKED_MAX:
        raise Refused(Reason.BODY_MALFORMED, f"write at most {ASKED_MAX} words", field="/q")
    return found


def _split(text: str) -> list[str]:
    return [word for each in folded(text.replace(",", " ")).split() if (word := each.strip(_EDGES))]
