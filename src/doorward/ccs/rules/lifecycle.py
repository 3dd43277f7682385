"""The life of a request as a table. The drawing in the docs is made from it (h11's way).

Final states never move. ``UNCONFIRMED`` is said openly; a write-once *settlement* may follow it.
"""

from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a request stands."""

    ACCEPTED = "ACCEPTED"
    QUARANTINED = "QUARANTINED"
    """Over a cap on moved load: it waits for two operators (X04)."""
    QUEUED = "QUEUED"
    SENT = "SENT"
    AT_GATEWAY = "AT_GATEWAY"
    DONE = "DONE"
    FAILED = "FAILED"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    UNCONFIRMED = "UNCONFIRMED"

    @property
    def is_final(self) -> bool:
        """Whether it never moves again."""
        return self in FINAL


class Event(StrEnum):
    """What moves a request."""

    QUEUE = "queue"
    HOLD_BACK = "hold_back"
    """It is over a cap."""
    LET_THROUGH = "let_through"
    """Two operators agreed."""
    SEND = "send"
    RECEIPT = "receipt"
    UNKNOWN_THERE = "unknown_there"
    """The gateway proves that it never had it."""
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED_THERE = "expired_there"
    CANCELLED_THERE = "cancelled_there"
    UNCONFIRMED_THERE = "unconfirmed_there"
    CANCEL = "cancel"
    DEADLINE = "deadline"


FINAL = frozenset(
    {State.DONE, State.FAILED, State.REFUSED, State.EXPIRED, State.CANCELLED, State.UNCONFIRMED}
)

_THERE = {
    Event.RECEIPT: State.AT_GATEWAY,
    Event.DONE: State.DONE,
    Event.FAILED: State.FAILED,
    Event.REFUSED: State.REFUSED,
    Event.EXPIRED_THERE: State.EXPIRED,
    Event.CANCELLED_THERE: State.CANCELLED,
    Event.UNCONFIRMED_THERE: State.UNCONFIRMED,
}
"""What the gateway says is believed in every open state: restored books may not know that they sent."""

TABLE: MappingProxyType[tuple[State, Event], State] = MappingProxyType(
    {
        (State.ACCEPTED, Event.QUEUE): State.QUEUED,
        (State.ACCEPTED, Event.SEND): State.SENT,
        (State.ACCEPTED, Event.CANCEL): State.CANCELLED,
        (State.ACCEPTED, Event.DEADLINE): State.EXPIRED,
        (State.ACCEPTED, Event.HOLD_BACK): State.QUARANTINED,
        (State.QUARANTINED, Event.LET_THROUGH): State.QUEUED,
        (State.QUARANTINED, Event.CANCEL): State.CANCELLED,
        (State.QUARANTINED, Event.DEADLINE): State.EXPIRED,
        (State.QUEUED, Event.SEND): State.SENT,
        (State.QUEUED, Event.CANCEL): State.CANCELLED,
        (State.QUEUED, Event.DEADLINE): State.EXPIRED,
        (State.SENT, Event.SEND): State.SENT,
        (State.SENT, Event.UNKNOWN_THERE): State.QUEUED,
        (State.SENT, Event.DEADLINE): State.UNCONFIRMED,
        (State.AT_GATEWAY, Event.DEADLINE): State.UNCONFIRMED,
        **{
            (open_state, event): state
            for open_state in (
                State.ACCEPTED,
                State.QUARANTINED,
                State.QUEUED,
                State.SENT,
                State.AT_GATEWAY,
            )
            for event, state in _THERE.items()
        },
    }
)
"""(state, event) → state. A pair that is not listed does not move the request."""

_RESULTS = MappingProxyType(
    {
        "DONE": Event.DONE,
        "FAILED": Event.FAILED,
        "REFUSED": Event.REFUSED,
        "EXPIRED": Event.EXPIRED_THERE,
        "CANCELLED": Event.CANCELLED_THERE,
        "UNCONFIRMED": Event.UNCONFIRMED_THERE,
    }
)


def after(state: State, event: Event) -> State | None:
    """Return the state after ``event``, or ``None`` where it does not move the request."""
    return TABLE.get((state, event))


def event_of_result(state: str) -> Event | None:
    """Return the event that a gateway's result is, or ``None`` for a word that is no result."""
    return _RESULTS.get(state)
