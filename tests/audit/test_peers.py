"""What one record holds of another: heads that stand, and nothing young that is said to be no longer kept."""

from pathlib import Path

import pytest

from doorward.audit.findings import CCS, Kind, Report
from doorward.audit.records import open_gateway
from doorward.audit.run import Peers
from doorward.spg.engines.sqlite import SqliteStore
from doorward.spg.engines.store import STORE_FILE
from doorward.spg.rules.facts import DAY_US, JournalRow
from doorward.wire.chain import NOTHING, Head, Link, PeerHead, beginning, seal

AT = 1_800_000_000_000_000


async def found(tmp_path: Path, head: Head, *, pruned: bool = False) -> list[Kind]:
    """What an auditor says of a gateway's record of which the CCS has heard this head lately."""
    store = SqliteStore(tmp_path / STORE_FILE)
    await store.write(lambda books: books.open(AT))
    row = JournalRow(at_us=AT - 40 * DAY_US, step="received", message="m-1")
    await store.write(lambda books: books.write_journal([row], AT - 40 * DAY_US))
    if pruned:
        await store.write(
            lambda books: books.prune(
                inbox_us=0,
                payload_us=0,
                journal_us=AT - 31 * DAY_US,
                samples_us=0,
                counts_us=0,
                now_us=AT,
            )
        )
    await store.close()
    report = Report()
    with open_gateway(tmp_path) as gateway:
        name = gateway.record.name
        peers = Peers(CCS, {name: gateway.record}, report, kept_since_us=AT - 31 * DAY_US)
        said = PeerHead(name, head.writer, head.epoch, head.seq, head.hash)
        await peers.follow(heard(said), ())
        await peers.flush()
    return [finding.kind for finding in report.findings]


def heard(said: PeerHead) -> Link:
    return seal(beginning(1), 1, AT, {}, [said], unmarked=0)


@pytest.mark.parametrize("pruned", [False, True])
async def test_a_gateway_that_came_before_it_had_anything_on_record_is_sound(
    tmp_path: Path, pruned: bool
) -> None:
    assert await found(tmp_path, Head(writer=1, epoch=0, seq=0, hash=NOTHING), pruned=pruned) == []


async def test_a_link_that_was_heard_of_lately_may_not_be_gone_already(tmp_path: Path) -> None:
    assert Kind.TRUNCATED in await found(
        tmp_path, Head(writer=1, epoch=1, seq=1, hash=b"h" * 32), pruned=True
    )
