"""The judge finds every kind of broken promise, and nothing where there is none."""

from dataclasses import replace

import pytest

from doorward.simulate.faults.judge import Booked, Ledgers, Told, judge

US = 1_000_000
WAY = (("recorded", ""), ("passed_to_gateway", ""), ("answer_recorded", "DONE"))
EXPIRED = (("recorded", ""), ("expired", "EXPIRED"))


def booked(number: int, **changes: object) -> Booked:
    done = Booked(
        id=f"r-{number}", key=f"k-{number}", state="DONE", due_us=20 * US, final_us=5 * US, steps=WAY
    )
    return replace(done, **changes)  # type: ignore[arg-type]


def sound() -> Ledgers:
    """Two that were done, one that expired, one of which the third party heard nothing, one refused."""
    return Ledgers(
        third_party=[
            Told(key="k-1", power=("PP", 301), id="r-1"),
            Told(key="k-2", power=("PP", 302), id="r-2"),
            Told(key="k-3", power=("PP", 303), id="r-3"),
            Told(key="k-4", power=("PP", 304)),
            Told(key="k-5", power=("PP", 305), refused="limit-exceeded"),
        ],
        books=[booked(1), booked(2), booked(3, state="EXPIRED", steps=EXPIRED)],
        gateways={"r-1": "DONE", "r-2": "DONE"},
        told_devices={"r-1": 1, "r-2": 1},
        acts={("PP", 301): [3 * US], ("PP", 302): [4 * US]},
    )


def broken(ledgers: Ledgers) -> set[str]:
    return set(judge(ledgers, late_us_max=US, refusals=["limit-exceeded"]).broken)


def test_where_everything_holds_nothing_is_found() -> None:
    verdict = judge(sound(), late_us_max=US, refusals=["limit-exceeded"])
    assert verdict.sound, verdict.words()
    assert (verdict.asked, verdict.accepted, verdict.refused, verdict.unsure) == (5, 3, 1, 1)
    assert verdict.states == {"DONE": 2, "EXPIRED": 1}


def test_a_refusal_that_was_not_due_is_found() -> None:
    assert not judge(sound(), late_us_max=US).sound


@pytest.mark.parametrize(
    ("promise", "books"),
    [
        ("an accepted request is in the books", [booked(1), booked(2)]),
        ("one key is one request", [booked(1), booked(9, key="k-1"), booked(2), booked(3)]),
        ("nothing is in the books that nobody asked", [booked(1), booked(2), booked(3), booked(7)]),
        ("what was refused was not accepted", [booked(1), booked(2), booked(3), booked(5)]),
        ("every request has a final state", [booked(1, state="SENT"), booked(2), booked(3)]),
        ("every request ends by its deadline", [booked(1, final_us=22 * US), booked(2), booked(3)]),
        ("DONE means that the device acted", [booked(1), booked(2), booked(3)]),
        ("what is said not to be done was not done", [booked(1, state="REFUSED"), booked(2), booked(3)]),
        ("what a gateway says reaches the books", [booked(1, state="UNCONFIRMED"), booked(2), booked(3)]),
        ("the books say nothing that the gateway does not", [booked(1), booked(2), booked(3)]),
        ("a gateway knows nothing that the books do not", [booked(1), booked(3)]),
        ("the journal has every acceptance once", [booked(1, steps=WAY[1:]), booked(2), booked(3)]),
        ("the journal has every end once", [booked(1, steps=WAY[:2]), booked(2), booked(3)]),
        ("the journal has every end once", [booked(1, steps=(*WAY, WAY[2])), booked(2), booked(3)]),
        ("the journal has every sending", [booked(1, steps=(WAY[0], WAY[2])), booked(2), booked(3)]),
    ],
)
def test_books_that_break_a_promise_are_found(promise: str, books: list[Booked]) -> None:
    ledgers = sound()
    ledgers.books = books
    assert promise in broken(ledgers)


def test_an_act_twice_is_found_also_when_nothing_changed_by_the_second() -> None:
    ledgers = sound()
    ledgers.acts = {**ledgers.acts, ("PP", 301): [3 * US, 5 * US]}
    assert broken(ledgers) == {"a device acts at most once"}


def test_an_act_after_the_deadline_is_found() -> None:
    ledgers = sound()
    ledgers.acts = {**ledgers.acts, ("PP", 301): [21 * US]}
    assert broken(ledgers) == {"nothing is done after its deadline"}


def test_an_act_that_nobody_asked_is_found() -> None:
    ledgers = sound()
    ledgers.acts = {**ledgers.acts, ("PP", 777): [3 * US]}
    assert broken(ledgers) == {"no device acts without a request in the books"}


def test_an_act_of_what_expired_is_found() -> None:
    ledgers = sound()
    ledgers.acts = {**ledgers.acts, ("PP", 303): [3 * US]}
    assert broken(ledgers) == {"what is said not to be done was not done"}


def test_a_gateway_that_told_its_device_twice_is_found() -> None:
    ledgers = sound()
    ledgers.told_devices = {"r-1": 2}
    assert broken(ledgers) == {"a gateway tells its device once"}


def test_a_request_that_is_open_at_its_gateway_is_found() -> None:
    ledgers = sound()
    ledgers.books = [
        booked(1),
        booked(2),
        booked(3, state="UNCONFIRMED", steps=(WAY[0], ("expired", "UNCONFIRMED"))),
    ]
    ledgers.gateways = {"r-1": "DONE", "r-2": "DONE", "r-3": "RECEIVED"}
    assert broken(ledgers) == {"every request ends at its gateway"}


def test_a_settlement_counts_as_what_it_says() -> None:
    ledgers = sound()
    ways = (WAY[0], WAY[1], ("expired", "UNCONFIRMED"))
    ledgers.books = [booked(1, state="UNCONFIRMED", settlement="DONE", steps=ways), booked(2), booked(3)]
    assert "DONE means that the device acted" in broken(ledgers)  # k-3 says DONE here and did not act
    ledgers.books[2] = booked(3, state="UNCONFIRMED", settlement="NOT_DONE", steps=ways)
    assert broken(ledgers) == set()
