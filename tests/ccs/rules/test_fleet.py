"""Caps on moved load, against brute force over every window."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.ccs.rules.fleet import (
    HELD_SLOT_US,
    LOWER,
    RAISE,
    SLOT_US,
    Caps,
    FleetLog,
    FleetTerms,
    Hold,
    Load,
    Move,
    Scales,
    give_back,
    keys_of,
    move_of,
    rated_w,
)
from doorward.wire.vocabulary import DeviceClass, Operation

S = 1_000_000
MINUTE = 60 * S
NOW = 1_800_000_000 * S
BIG = Caps(10**12, 10**12)


def terms(**changes: object) -> FleetTerms:
    facts: dict[str, object] = {
        "fleet": BIG,
        "area": BIG,
        "party": Caps(5_000, 9_000),
        "campaign_w": 10**12,
        "spread_s": 600,
        "opposing_w": 10**12,
    }
    return FleetTerms(**(facts | changes))  # type: ignore[arg-type]


def load(n: int, w: int = 1_000, *, at_us: int = NOW, lasts_us: int = 3600 * S, **changes: object) -> Load:
    facts: dict[str, object] = {
        "request": f"r{n}",
        "party": "volt",
        "area": "north",
        "subject": f"d{n}",
        "move": Move(0, w),
        "begin_us": at_us,
        "until_us": at_us + lasts_us,
    }
    return Load(**(facts | changes))  # type: ignore[arg-type]


class Books:
    """Logs and holds as the books would keep them, one transaction after the other."""

    def __init__(self, terms: FleetTerms) -> None:
        self.terms = terms
        self.logs: dict[str, FleetLog] = {}
        self.holds: dict[tuple[str, str], Hold] = {}

    def weigh(self, load: Load, now_us: int) -> bool:
        logs = {key: self.logs.setdefault(key, FleetLog(key=key)) for key in keys_of(load.party, load.area)}
        scales = Scales(logs, self.terms, now_us)
        weighed = scales.weigh(load, self.holds.get((load.party, load.subject)))
        if weighed.over:
            return False
        self.holds[load.party, load.subject] = scales.hold(load, weighed.spread_s)
        return True

    def let_go(self, party: str, subject: str, now_us: int) -> None:
        hold = self.holds[party, subject]
        logs = {key: self.logs[key] for key in keys_of(party, hold.area)}
        self.holds[party, subject] = give_back(logs, hold, now_us)


# --- what a control may move -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "body", "moves"),
    [
        (Operation.TURN_ON, {}, Move(7_000, 0)),
        (Operation.LOAD_UP, {"level": 1}, Move(7_000, 0)),
        (Operation.TURN_OFF, {}, Move(0, 7_000)),
        (Operation.SHED, {"level": 1}, Move(0, 7_000)),
        (Operation.LIMIT, {"watts": 2_000}, Move(2_000, 5_000)),
        (Operation.LIMIT, {"watts": 9_000.0}, Move(7_000, 0)),
        (Operation.SETPOINT, {"celsius": 20}, Move(7_000, 7_000)),
        (Operation.READ, {}, Move(0, 0)),
        (Operation.RELEASE, {}, Move(0, 0)),
    ],
)
def test_a_control_counts_as_the_most_that_it_can_move(
    operation: Operation, body: dict[str, object], moves: Move
) -> None:
    assert move_of(operation, body, 7_000) == moves


def test_a_device_of_unknown_rating_counts_as_what_is_usual_for_its_class() -> None:
    assert rated_w(0.0, DeviceClass.EV_CHARGER) == 7_400
    assert rated_w(1_234.5, DeviceClass.EV_CHARGER) == 1_234
    assert all(rated_w(0.0, each) for each in DeviceClass if each is not DeviceClass.METER)


# --- in any minute, and at once -----------------------------------------------------------------------

moments = st.lists(
    st.tuples(
        st.integers(0, 90 * S),  # how long after the one before
        st.integers(1, 4_000),  # W
        st.integers(0, 20),  # which device
        st.integers(1 * S, 600 * S),  # how long
        st.sampled_from(["raise", "lower", "both"]),
        st.booleans(),  # let something go first
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(moments)
def test_no_window_and_no_moment_ever_holds_more_than_the_cap_and_room_is_never_refused(
    asked: list[tuple[int, int, int, int, str, bool]],
) -> None:
    books = Books(terms(spread_s=0))
    caps = books.terms.party
    moved: dict[str, list[tuple[int, int]]] = {RAISE: [], LOWER: []}
    running: dict[str, tuple[int, int, Move]] = {}
    now = NOW
    for n, (later, w, device, lasts, way, let_go) in enumerate(asked):
        now += later
        if let_go and running:
            gone = sorted(running)[0]
            books.let_go("volt", gone, now)
            del running[gone]
        move = Move(w if way != "lower" else 0, w if way != "raise" else 0)
        each = load(n, at_us=now, lasts_us=lasts, move=move, subject=f"d{device}")
        running = {
            subject: hold
            for subject, hold in running.items()
            if hold[1] + HELD_SLOT_US > now  # what may still be held
        }
        others = [hold for subject, hold in running.items() if subject != each.subject]
        went = books.weigh(each, now)
        if went:
            running[each.subject] = (now, now + lasts, move)
            for direction in (RAISE, LOWER):
                moved[direction].append((now, move.of(direction)))
        for direction in (RAISE, LOWER):
            log = moved[direction]
            for begin, _ in log:
                within = sum(w for at, w in log if begin <= at < begin + MINUTE)
                assert within <= caps.per_minute_w
            held = sum(move.of(direction) for _, until, move in running.values() if until > now)
            assert held <= caps.at_once_w
        if not went:
            near = 7 * SLOT_US
            full = any(
                sum(w for at, w in moved[d] if at > now - near) + move.of(d) > caps.per_minute_w
                or sum(one[2].of(d) for one in others) + move.of(d) > caps.at_once_w
                for d in (RAISE, LOWER)
                if move.of(d)
            )
            assert full, "there was room"


def test_what_starts_later_counts_in_the_minute_of_its_start() -> None:
    books = Books(terms())
    at_six = NOW + 3600 * S
    went = [
        books.weigh(load(n, begin_us=at_six, until_us=at_six + 600 * S), NOW + n * 30 * S) for n in range(9)
    ]
    assert went.count(True) == 5
    assert books.weigh(load(99), NOW + 300 * S), "another minute has room of its own"


def test_a_random_start_counts_evenly_over_its_span() -> None:
    books = Books(terms(party=Caps(5_000, 10**9)))
    went = [books.weigh(load(n, campaign=True), NOW) for n in range(100)]
    assert went.count(True) == 42, "5 kW a minute over 600 s, of which a run of 7 slots of 10 s may hold 70 s"


def test_more_in_a_minute_than_single_controls_make_is_a_campaign_without_saying_so() -> None:
    books = Books(terms(party=BIG, campaign_w=3_000))
    logs = {key: FleetLog(key=key) for key in keys_of("volt", "north")}
    scales = Scales(logs, books.terms, NOW)
    assert [scales.weigh(load(n), None).spread_s for n in range(5)] == [0, 0, 0, 600, 600]


def test_no_more_single_controls_are_held_than_may_move_in_a_minute_for_they_are_let_go_at_once() -> None:
    books = Books(terms(party=Caps(5_000, 10**9)))
    spans = []
    for n in range(8):
        at_us = NOW + n * 2 * MINUTE
        logs = {key: books.logs.setdefault(key, FleetLog(key=key)) for key in keys_of("volt", "north")}
        spans.append(Scales(logs, books.terms, at_us).weigh(load(n, at_us=at_us), None).spread_s)
    assert spans == [0] * 5 + [600] * 3


def test_one_too_many_single_controls_that_cannot_begin_at_random_waits() -> None:
    books = Books(terms(party=Caps(5_000, 10**9)))
    went = []
    for n in range(8):
        at_us = NOW + n * 2 * MINUTE
        went.append(books.weigh(load(n, at_us=at_us, room_s=0), at_us))
    assert went == [True] * 5 + [False] * 3


def test_each_area_and_the_fleet_have_caps_of_their_own_whoever_asks() -> None:
    books = Books(terms(party=BIG, area=Caps(3_000, 10**9), fleet=Caps(5_000, 10**9)))

    def ask(n: int, party: str, area: str) -> bool:
        return books.weigh(load(n, party=party, area=area), NOW)

    assert [ask(1, "volt", "north"), ask(2, "amp", "north"), ask(3, "ohm", "north")] == [True] * 3
    assert not ask(4, "volt", "north")
    assert [ask(5, "volt", "south"), ask(6, "amp", "south")] == [True] * 2
    assert not ask(7, "ohm", "south"), "the fleet is full, the area is not"
    assert not ask(8, "ohm", ""), "a service point in no named area hangs on the fleet all the same"


def test_a_party_and_an_area_may_be_given_more() -> None:
    books = Books(terms(parties={"volt": Caps(9_000, 10**9)}, areas={"south": Caps(1_000, 10**9)}))
    assert [books.weigh(load(n), NOW) for n in range(10)].count(True) == 9
    assert [books.weigh(load(n, area="south", party="amp"), NOW) for n in range(3)].count(True) == 1


@pytest.mark.parametrize("shift_s", [0, 1, 100, 299])
def test_what_ends_by_itself_is_held_to_the_end_of_its_random_end_and_not_much_longer(shift_s: int) -> None:
    books, begin = Books(terms(party=Caps(10**9, 1_000))), NOW + shift_s * S
    assert books.weigh(load(1, at_us=begin, lasts_us=MINUTE), begin)
    end = begin + MINUTE + 600 * S
    assert not books.weigh(load(2), end - 1)
    assert books.weigh(load(3), end + HELD_SLOT_US)


def test_a_control_takes_the_place_of_the_one_before_on_the_same_device() -> None:
    books = Books(terms(party=Caps(10**9, 1_000)))
    assert [books.weigh(load(n, subject="d"), NOW + n * MINUTE) for n in range(20)] == [True] * 20
    assert not books.weigh(load(99, subject="other"), NOW + 20 * MINUTE)


def test_one_that_is_over_leaves_the_one_before_it_held() -> None:
    books = Books(terms(party=Caps(10**9, 1_500)))
    assert books.weigh(load(1, 1_000, subject="d"), NOW)
    assert not books.weigh(load(2, 2_000, subject="d"), NOW + MINUTE)
    assert not books.weigh(load(3, 600, subject="e"), NOW + MINUTE), "the first still is held"


# --- to and fro ---------------------------------------------------------------------------------------


def switching(books: Books, minutes: list[int], *, subject: str = "d") -> list[bool]:
    """Off and on and off … at these minutes."""
    moves = [Move(0, 1_000), Move(1_000, 0)]
    return [
        books.weigh(load(n, move=moves[n % 2], at_us=NOW + at * MINUTE, subject=subject), NOW + at * MINUTE)
        for n, at in enumerate(minutes)
    ]


def test_switching_the_same_devices_to_and_fro_has_a_cap_of_its_own() -> None:
    went = switching(Books(terms(party=BIG, opposing_w=2_500)), [0, 1, 2, 3, 5])
    assert went == [True, True, True, False, True], "the last, off, is what it is already"


def test_switching_that_takes_its_time_is_nobody_s_oscillation() -> None:
    books = Books(terms(party=BIG, opposing_w=500))
    assert switching(books, [0, 11, 22, 33]) == [True] * 4


def test_the_same_again_is_no_oscillation_but_letting_go_in_between_is() -> None:
    books = Books(terms(party=BIG, opposing_w=500))
    assert books.weigh(load(1, subject="d"), NOW)
    assert books.weigh(load(2, subject="d"), NOW + MINUTE), "off, and off again"
    books.let_go("volt", "d", NOW + 2 * MINUTE)
    assert not books.weigh(load(3, subject="d"), NOW + 3 * MINUTE), "off, let go, and off again"


def test_ends_in_between_count_as_letting_go() -> None:
    books = Books(terms(party=BIG, opposing_w=500))
    assert books.weigh(load(1, subject="d", lasts_us=MINUTE), NOW)
    assert not books.weigh(load(2, subject="d", at_us=NOW + 2 * MINUTE), NOW + 2 * MINUTE)


def test_another_party_on_the_same_device_is_judged_by_itself() -> None:
    books = Books(terms(party=BIG, opposing_w=500))
    assert books.weigh(load(1, subject="d"), NOW)
    assert books.weigh(load(2, subject="d", party="amp", move=Move(1_000, 0)), NOW + MINUTE)
