"""The gateway's clock and words of the CCS that were long on their way."""

from dataclasses import dataclass

from doorward.spg.engines.clock import GatewayClock

S = 1_000_000
NOON = 1_800_000_000 * S


@dataclass
class Machine:
    """The machine's own clock."""

    us: int = NOON

    def now_us(self) -> int:
        return self.us


def started(wrong_s: int = 0) -> tuple[Machine, GatewayClock]:
    machine = Machine(NOON + wrong_s * S)
    clock = GatewayClock(machine)
    clock.resume(NOON - 3600 * S)
    return machine, clock


def test_a_word_that_was_held_up_does_not_set_the_clock_back() -> None:
    machine, clock = started()
    clock.asked()
    machine.us += 15 * S
    clock.hear(NOON)  # said at once, and fifteen seconds on its way
    assert clock.now_us() == NOON + 15 * S


def test_a_word_that_nobody_asked_for_never_sets_it_back_but_may_set_it_forward() -> None:
    machine, clock = started()
    clock.asked()
    clock.hear(NOON)
    machine.us += 60 * S
    clock.hear(NOON + 40 * S)
    assert clock.now_us() == NOON + 60 * S
    clock.hear(NOON + 65 * S)
    assert clock.now_us() == NOON + 65 * S


def test_a_clock_that_is_ahead_is_set_right_by_an_answer_to_its_question() -> None:
    machine, clock = started(wrong_s=600)
    clock.asked()
    machine.us += S // 5
    clock.hear(NOON + S // 10)
    assert 0 <= clock.now_us() - (NOON + S // 10) <= S // 5


def test_asking_again_does_not_make_an_answer_younger() -> None:
    machine, clock = started()
    clock.asked()
    machine.us += 10 * S
    clock.asked()
    machine.us += S
    clock.hear(NOON)
    assert clock.now_us() == NOON + 11 * S
