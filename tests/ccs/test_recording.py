"""The record over time: heads go out with what they record, checkpoints are signed, what is old goes."""

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.audit.findings import Report
from doorward.audit.run import audit
from doorward.ccs.engines.opening import auditing
from doorward.ccs.recording import DAY_US, Keep, Recording
from doorward.kit.ids import time_of_us
from doorward.wire import codec
from doorward.wire.chain import CHECKPOINT, NOTHING, Checkpoint, Head, digest_of
from doorward.wire.messages import FrameDown
from doorward.wire.signatures import public_jwk, sign, verify
from doorward.wire.steps import Step
from tests.ccs.town import READ, Town, settle

KEY = Ed25519PrivateKey.generate()
KEYS = {"r": public_jwk(KEY.public_key())}
KEEP = Keep(journal_us=100 * DAY_US, payload_us=30 * DAY_US)


@pytest.fixture
def recording(town: Town) -> Recording:
    return Recording(
        town.journey,
        lambda: town.ownership,
        lambda payload, typ: sign(payload, KEY, "r", typ),
        town.rng,
        KEEP,
    )


def frames(town: Town) -> list[FrameDown]:
    """All frames that went to the gateway."""
    key = town.gateway.key
    return [codec.decode_down(raw, "SPG-1", key) for _, raw in town.link.sent]


async def heads(town: Town) -> list[Head]:
    return await town.store.read(lambda books: books.heads())


async def report(town: Town, tmp_path: Path) -> Report:
    return await audit(
        f"sqlite:///{tmp_path / 'ccs.db'}", [], record_keys=KEYS, consent_keys={}, now_us=town.clock.us
    )


async def retained(recording: Recording) -> None:
    while await recording.retain():
        pass


async def test_what_is_sent_names_the_link_that_records_it(town: Town) -> None:
    await town.accepted(READ)
    assert frames(town)[-1].heads == await heads(town)


async def test_what_a_gateway_says_of_its_record_stands_in_ours(town: Town, tmp_path: Path) -> None:
    request = await town.accepted(READ)
    head = Head(epoch=1, seq=17, hash=b"g" * 32)
    receipt = town.gateway.receipt(request.id, Step.GATEWAY_RECEIVED, town.clock.now_us())
    town.gateway.counter += 1
    raw = codec.encode_up(
        "SPG-1", town.gateway.epoch, town.gateway.counter, [receipt], town.gateway.key, head=head
    )
    town.journey.receive("SPG-1", raw)
    await settle(town.journey)

    (mine,) = await heads(town)
    async with auditing(f"sqlite:///{tmp_path / 'ccs.db'}") as books:
        ((_, link),) = await books.links(mine.writer, mine.seq - 1, 1)
    assert link is not None
    assert [(peer.name, peer.head) for peer in link.peers] == [("SPG-1", head)]


async def test_a_checkpoint_holds_all_heads_is_signed_and_follows_the_one_before(
    town: Town, recording: Recording
) -> None:
    documents = []
    for _ in range(2):
        await town.accepted(READ)
        await recording.checkpoint()
        number, document = await town.store.read(lambda books: books.last_checkpoint())
        made = msgspec.json.decode(verify(document, KEYS, CHECKPOINT), type=Checkpoint)
        assert (made.number, made.heads) == (number, await heads(town))
        documents.append((made, document))
    assert documents[0][0].prev == NOTHING
    assert documents[1][0].prev == digest_of(documents[0][1])


async def test_without_news_there_is_no_checkpoint(town: Town, recording: Recording) -> None:
    await town.accepted(READ)
    for _ in range(3):
        await recording.checkpoint()
    assert (await town.store.read(lambda books: books.last_checkpoint()))[0] == 1


async def test_a_checkpoint_goes_to_a_gateway_once_with_what_goes_there_anyway(
    town: Town, recording: Recording
) -> None:
    await town.accepted(READ)
    await recording.checkpoint()
    before = len(frames(town))
    for _ in range(2):
        await town.accepted(READ)
    _, document = await town.store.read(lambda books: books.last_checkpoint())
    assert [frame.checkpoint for frame in frames(town)[before:]] == [document, ""]


async def test_only_the_owner_of_the_first_partition_makes_checkpoints(
    town: Town, recording: Recording
) -> None:
    await town.accepted(READ)
    town.ownership.partitions = frozenset({7})
    await recording.checkpoint()
    await recording.retain()
    assert await town.store.read(lambda books: books.last_checkpoint()) == (0, "")


async def test_what_requests_carried_is_erased_and_the_record_stays_sound(
    town: Town, recording: Recording, tmp_path: Path
) -> None:
    request = await town.accepted(READ)
    await town.gateway.say(town.gateway.result(request.id, "DONE", {"power_w": 12}))
    assert bytes((await town.request(request.id)).result) == b'{"power_w":12}'
    town.clock.pass_s(31 * 86_400)
    await retained(recording)
    kept = await town.request(request.id)
    assert (bytes(kept.body), bytes(kept.result), kept.salt, kept.state) == (b"{}", b"null", "", "DONE")
    assert (await report(town, tmp_path)).findings == []


async def test_days_of_the_journal_go_with_a_tombstone_and_the_record_stays_sound(
    town: Town, recording: Recording, tmp_path: Path
) -> None:
    old = [await town.accepted(READ) for _ in range(3)]
    town.clock.pass_s(101 * 86_400)
    await retained(recording)
    assert [await town.steps(each.id) for each in old] == [[], [], []]
    found = await report(town, tmp_path)
    assert found.findings == []
    assert found.looked["tombstones"] >= 1


async def test_rows_that_go_without_a_tombstone_are_missed(
    town: Town, recording: Recording, tmp_path: Path
) -> None:
    request = await town.accepted(READ)
    day = time_of_us(request.id) // DAY_US
    await town.store.write(lambda books: books.drop_rows(day, 1_000))
    assert set((await report(town, tmp_path)).counted) == {"removed"}


async def test_a_tombstone_that_is_not_ours_covers_nothing(
    town: Town, recording: Recording, tmp_path: Path
) -> None:
    request = await town.accepted(READ)
    day = time_of_us(request.id) // DAY_US
    forged = sign(b"{}", Ed25519PrivateKey.generate(), "r", "tombstone")
    await town.store.write(lambda books: books.add_tombstone(day, 1, forged))
    await town.store.write(lambda books: books.drop_rows(day, 1_000))
    assert {"forged", "removed"} <= set((await report(town, tmp_path)).counted)
