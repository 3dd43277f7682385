"""All frames of a run, recorded at both ends of the link and played again: now, later, after restarts, elsewhere.

None has an effect a second time; what is not a plain duplicate is on record as an attempt.
"""

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from doorward.wire import codec
from doorward.wire.messages import Attempt, Cancel, Notice
from doorward.wire.reasons import Reason
from doorward.wire.steps import Step
from doorward.wire.vocabulary import Operation
from tests.ccs.town import LIMIT, READ, PlayedGateway, Town, settle
from tests.spg.home import GATEWAY, KEY, Home
from tests.spg.virtual import in_virtual_time

DAY_S = 24 * 3600
FLIPS = 400


# ---- at the gateway --------------------------------------------------------------------------------------


class Tapped(Home):
    """A home whose frames from the CCS are all recorded."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.tape: list[bytes] = []

    def frame(self, *messages: Any) -> bytes:
        raw = super().frame(*messages)
        self.tape.append(raw)
        return raw

    async def replay(self) -> None:
        for raw in list(self.tape):
            await self.deliver(raw)
        await self.settle(5)


async def a_run(directory: Path) -> Tapped:
    """Permission, a read, two controls, a cancellation, a renewal, a withdrawal."""
    home = Tapped(directory)
    await home.start()
    await home.greet()
    await home.answer(home.command(Operation.READ))
    off = home.command(Operation.TURN_OFF)
    await home.answer(off)
    await home.tell(Cancel(id=off.id))
    await home.answer(home.command(Operation.LIMIT, device="ev", body={"watts": 1400}))
    await home.tell(home.lease(), home.time())
    await home.settle(5)
    await home.tell(home.withdraw())
    await home.settle(5)
    return home


@in_virtual_time
async def test_a_gateway_takes_nothing_a_second_time(tmp_path: Path) -> None:
    home = await a_run(tmp_path)
    acts = list(home.adapter.acts)
    assert {act[2] for act in acts} >= {"turn_off", "limit"}

    await home.replay()
    await home.sleep(3600)
    await home.replay()
    await home.restart()
    await home.replay()
    await home.sleep(31 * DAY_S)
    await home.replay()
    assert home.adapter.acts == acts

    home.epoch, home.counter = home.epoch + 1, 0  # another worker serves the gateway now
    await home.tell(home.time())
    before = len(home.of(Attempt))
    await home.replay()
    assert home.adapter.acts == acts
    assert {attempt.reason for attempt in home.of(Attempt)[before:]} == {Reason.REPLAYED}
    assert any(row.reason == "replayed" for row in await home.journal() if row.step == "attempt")


@in_virtual_time
async def test_a_withdrawn_permission_is_not_brought_back_by_the_frames_that_gave_it(tmp_path: Path) -> None:
    home = await a_run(tmp_path)
    await home.replay()
    home.link.is_up = False
    await home.sleep(60)
    home.link.is_up = True
    await home.replay()
    refused = await home.answer(home.command(Operation.TURN_OFF))
    assert refused.state == "REFUSED"
    assert refused.reason in (Reason.ACCESS_DISABLED, Reason.ACCESS_ENDED)


@in_virtual_time
async def test_the_frames_of_one_gateway_are_nothing_to_another(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    home = await a_run(tmp_path / "one")
    key = codec.gateway_key(b"another master" * 3, "gw-2", 1)
    foreign = [
        codec.encode_down("gw-2", 9, at, list(codec.decode_down(raw, GATEWAY, KEY).messages), key)
        for at, raw in enumerate(home.tape, 1)
    ]
    other = Tapped(tmp_path / "two")
    await other.start()
    await other.greet()
    await other.settle(2)
    calls, seen = other.adapter.calls, len(other.of(Attempt))
    for raw in foreign:
        await other.deliver(raw)
    await other.settle(70)
    assert (other.adapter.calls, other.adapter.acts) == (calls, [])
    assert {attempt.reason for attempt in other.of(Attempt)[seen:]} == {Reason.FORGED}
    assert sum(attempt.count for attempt in other.of(Attempt)[seen:]) == len(foreign)


@in_virtual_time
async def test_no_frame_with_a_flipped_bit_is_taken(tmp_path: Path) -> None:
    home = await Tapped(tmp_path).start()
    await home.greet()
    await home.settle(2)
    raw = home.frame(home.command(Operation.TURN_OFF))
    dice = random.Random(10)
    places = dice.sample(range(len(raw) * 8), FLIPS)
    for place in places:
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        await home.deliver(bytes(flipped))
    await home.settle(70)
    assert home.adapter.acts == []
    assert {attempt.reason for attempt in home.of(Attempt)} == {Reason.FORGED}
    assert sum(attempt.count for attempt in home.of(Attempt)) == FLIPS


# ---- at the CCS ------------------------------------------------------------------------------------------


class Recording(PlayedGateway):
    """A gateway that remembers every frame that it sent."""

    tape: list[bytes]

    async def say(self, *messages: Any) -> None:
        self.counter += 1
        raw = codec.encode_up(self.name, self.epoch, self.counter, list(messages), self.key)
        self.tape.append(raw)
        self.journey.receive(self.name, raw)
        await settle(self.journey)


@pytest.fixture
async def played(town: Town) -> Town:
    """A run: a read that is answered, a control that is answered, a notice of the device's own."""
    gateway = Recording("SPG-1", town.journey, town.link, epoch=2)
    gateway.tape = []
    town.gateway = gateway
    await gateway.connect()
    gateway.heard()
    for body in (READ, LIMIT):
        request = await town.accepted(body)
        await gateway.answer(request.id, {"celsius": 21})
    now_us = town.clock.now_us()
    gateway.seq += 1
    await gateway.say(
        Notice(
            seq=gateway.seq, id="01890000-0000-7000-8000-00000000000a", party="bright", service_point="SP-1",
            device="TH-1", kind="override", at_us=now_us, grant="G-bright", grant_version=1,
        )
    )  # fmt: skip
    return town


async def everything(town: Town) -> Any:
    """All that third parties could see of it."""
    listed = await town.store.read(lambda books: books.list_requests("bright", limit=100))
    return [(each.id, each.state, each.taken_us, each.charged) for each in listed], await town.events()


def on_record(place: Path, reason: Reason) -> int:
    """How many refusals for this reason the journal has."""
    with sqlite3.connect(f"file:{place / 'ccs.db'}?mode=ro", uri=True) as file:
        found = file.execute("SELECT count(*) FROM journal WHERE steps LIKE ?", (f'%"{reason.value}"%',))
        return int(found.fetchone()[0])


async def test_the_ccs_takes_nothing_a_second_time(played: Town, tmp_path: Path) -> None:
    gateway = played.gateway
    assert isinstance(gateway, Recording)
    before = await everything(played)
    assert len(before[0]) == 2

    for later_s in (0, 3600, 31 * DAY_S):
        played.clock.pass_s(later_s)
        for raw in gateway.tape:
            played.journey.receive("SPG-1", raw)
        await settle(played.journey)
        assert await everything(played) == before

    gateway.epoch, gateway.counter = 3, 0  # the gateway has started again
    await gateway.connect()
    told = len(played.link.sent)
    for raw in gateway.tape[:-1]:
        played.journey.receive("SPG-1", raw)
    await settle(played.journey)
    assert await everything(played) == before
    assert len(played.link.sent) == told  # nothing is acknowledged, nobody is greeted
    assert on_record(tmp_path, Reason.REPLAYED) == len(gateway.tape) - 1


async def test_the_frames_of_one_gateway_are_refused_from_another(played: Town, tmp_path: Path) -> None:
    gateway = played.gateway
    assert isinstance(gateway, Recording)
    before = await everything(played)
    for raw in gateway.tape:
        played.journey.receive("SPG-2", raw)
    await settle(played.journey)
    assert await everything(played) == before
    assert on_record(tmp_path, Reason.FORGED) == len(gateway.tape)


async def test_no_frame_with_a_flipped_bit_is_taken_by_the_ccs(played: Town, tmp_path: Path) -> None:
    gateway = played.gateway
    assert isinstance(gateway, Recording)
    request = await played.accepted(READ)
    gateway.heard()
    result = gateway.result(request.id, "DONE", {"celsius": 99})
    raw = codec.encode_up("SPG-1", gateway.epoch, gateway.counter + 1, [result], gateway.key)
    before = await everything(played)
    for place in random.Random(11).sample(range(len(raw) * 8), FLIPS):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        played.journey.receive("SPG-1", bytes(flipped))
    await settle(played.journey)
    assert await everything(played) == before
    counted = played.journey.refusals.counted(played.clock.now_us() + 120_000_000)
    beyond = sum(many for _, reason, many in counted if reason is Reason.FORGED)
    assert on_record(tmp_path, Reason.FORGED) + beyond == FLIPS

    played.journey.receive("SPG-1", raw)  # and as it was, it is
    await settle(played.journey)
    assert (await played.request(request.id)).state == "DONE"
    assert str(Step.ANSWER_RECORDED) in await played.steps(request.id)
