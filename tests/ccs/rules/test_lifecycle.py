"""The life cycle as a table: what it must never allow."""

import itertools

import pytest

from doorward.ccs.rules.lifecycle import FINAL, TABLE, Event, State, after


def test_final_states_never_move() -> None:
    for state, event in itertools.product(FINAL, Event):
        assert after(state, event) is None


def test_every_open_state_ends_at_its_deadline() -> None:
    for state in set(State) - FINAL:
        ended = after(state, Event.DEADLINE)
        assert ended is not None
        assert ended in FINAL


@pytest.mark.parametrize("state", [State.SENT, State.AT_GATEWAY])
def test_what_was_sent_is_never_said_to_have_expired_by_the_ccs_alone(state: State) -> None:
    assert after(state, Event.DEADLINE) is State.UNCONFIRMED
    assert after(state, Event.CANCEL) is None


def test_every_state_can_be_reached_from_the_first() -> None:
    reached = {State.ACCEPTED}
    while True:
        more = {to for (at, _), to in TABLE.items() if at in reached} - reached
        if not more:
            break
        reached |= more
    assert reached == set(State)
