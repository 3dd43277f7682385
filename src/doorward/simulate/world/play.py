"""Play seeds: one, or thousands; what came of them."""

import gc
import logging
from collections import Counter
from collections.abc import Callable
from hashlib import sha256

import msgspec
import structlog

from doorward.simulate.world import oracle, town
from doorward.simulate.world.bugs import BUGS
from doorward.simulate.world.ledger import Breach
from doorward.simulate.world.loop import Stuck
from doorward.simulate.world.world import World
from doorward.spg import receiving
from doorward.wire import signatures

Verify = Callable[[str, dict[str, dict[str, str]], str], bytes]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one seed."""

    seed: int
    breaches: list[Breach]
    counts: dict[str, int]
    deaths: dict[str, int]
    digest: str
    """Of everything that happened: the same for every run of the seed."""
    trace: list[tuple[float, str, str]] | None = None


class Player:
    """Plays one seed after another on the same disks."""

    def __init__(self, bug: str = "") -> None:
        """``bug`` is planted in this process for good, if it is named."""
        if bug:
            BUGS[bug].plant()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        logging.disable(logging.CRITICAL)
        setattr(receiving, "verify", remembered(signatures.verify))  # noqa: B010 - it is not receiving's own
        self._disks = town.Disks.made()

    def play(self, seed: int, *, trace: bool = False) -> Outcome:
        """Play one seed to its end, and judge it."""
        gc.disable()
        world = World(seed, self._disks)
        world.ledger.trace = [] if trace else None
        try:
            world.run()
        except Stuck as stuck:
            world.ledger.breach("stuck", str(stuck))
        outcome = Outcome(
            seed=seed,
            breaches=world.ledger.breaches,
            counts=dict(counts_of(world)),
            deaths={f"{place} {when}": count for (place, when), count in world.mishaps.deaths.items()},
            digest=sha256(oracle.as_json(world)).hexdigest()[:16],
            trace=world.ledger.trace,
        )
        del world
        gc.enable()
        return outcome


def remembered(verify: Verify) -> Verify:
    """Return the real verification of signatures, asked once about each document: its answer cannot change."""
    known: dict[tuple[str, str], bytes] = {}

    def verified(document: str, keys: dict[str, dict[str, str]], typ: str) -> bytes:
        payload = known.get((document, typ))
        if payload is None:
            payload = known[document, typ] = verify(document, keys, typ)
        return payload

    return verified


def counts_of(world: World) -> Counter[str]:
    """Return how much of everything there was in a world."""
    counts: Counter[str] = Counter(world.mishaps.counts)
    counts.update(world.network.counts)
    counts.update({f"device {mood}": count for mood, count in world.street.moods.items()})
    counts.update({f"third party: {name}": count for name, count in world.third_parties.counts.items()})
    counts["clock steps"] += world.walls.steps
    counts["commits"] += world.ledger.commits
    counts["acts"] += len(world.street.acts)
    counts["asks"] += len(world.third_parties.wishes)
    counts["virtual seconds"] += int(world.loop.time())
    for state, count in world.disks.ccs.ask("SELECT state, count(*) FROM request GROUP BY state"):
        counts[f"requests {state}"] += count
    return counts
