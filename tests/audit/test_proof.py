"""Permission is proved for what was delivered: by what was signed, as it stood at that moment."""

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from doorward.audit.findings import Report
from doorward.audit.run import audit
from doorward.ccs.rules.facts import Grant, JournalRow, StepRecord
from doorward.kit.ids import uuid7
from doorward.wire.signatures import public_jwk, sign
from doorward.wire.steps import Step
from tests.ccs.town import HOUR, SECOND, Town

KEY = Ed25519PrivateKey.generate()
KEYS = {"c": public_jwk(KEY.public_key())}
ANSWER = (Step.TARGET_AUTHENTICATED, Step.TARGET_AUTHORISED, Step.HANDING_OVER)
DAY = 24 * HOUR


def signed(grant: Grant, key: Ed25519PrivateKey = KEY) -> Grant:
    return replace(grant, signed=sign(msgspec.json.encode(grant.document), key, "c", "grant"))


async def give(town: Town, grant: Grant) -> None:
    await town.store.write(lambda books: books.put_grants([grant]))


async def say(
    town: Town, *steps: Step, operation: str = "read", device: str = "TH-1", message: str = ""
) -> str:
    """Record a request of Sunfold, and that this came of it; return its id."""
    now_us = town.clock.now_us()
    message = message or uuid7(now_us, town.rng)
    for part in ([StepRecord(at_us=now_us, step=Step.RECEIVED, detail=operation)], [*_at(now_us, *steps)]):
        row = JournalRow(
            message=message,
            at_us=now_us,
            party="sun",
            service_point="SP-1",
            gateway="SPG-1",
            device=device,
            steps=part,
        )
        await town.store.write(lambda books, one=row: books.write_journal([one]))  # type: ignore[misc]
    return message


def _at(now_us: int, *steps: Step) -> list[StepRecord]:
    return [StepRecord(at_us=now_us, step=step) for step in steps]


async def report(town: Town, tmp_path: Path) -> Report:
    return await audit(
        f"sqlite:///{tmp_path / 'ccs.db'}", [], record_keys={}, consent_keys=KEYS, now_us=town.clock.us
    )


@pytest.mark.parametrize("steps", [ANSWER, (Step.PASSED_TO_HAN,)], ids=["answer", "act"])
async def test_what_a_live_permission_covers_is_sound(
    town: Town, tmp_path: Path, steps: tuple[Step, ...]
) -> None:
    await give(town, signed(town.grant("sun", 1)))
    await say(town, *steps)
    found = await report(town, tmp_path)
    assert found.findings == []
    assert found.looked["deliveries"] == 1


@pytest.mark.parametrize("steps", [ANSWER, (Step.PASSED_TO_HAN,)], ids=["answer", "act"])
async def test_what_nobody_permitted_is_found(town: Town, tmp_path: Path, steps: tuple[Step, ...]) -> None:
    await say(town, *steps)
    (found,) = (await report(town, tmp_path)).findings
    assert (found.kind, "there was no permission" in found.says) == ("uncovered", True)


async def test_an_answer_after_a_withdrawal_is_found_and_one_before_is_not(
    town: Town, tmp_path: Path
) -> None:
    await give(town, signed(town.grant("sun", 1)))
    await say(town, *ANSWER)
    town.clock.pass_s(60)
    await give(town, signed(town.grant("sun", 1, "withdrawn")))
    assert (await report(town, tmp_path)).findings == []
    town.clock.pass_s(60)
    await say(town, *ANSWER)
    assert (await report(town, tmp_path)).counted == {"uncovered": 1}


async def test_a_gateway_that_was_out_of_reach_may_act_within_its_lease_and_no_longer(
    town: Town, tmp_path: Path
) -> None:
    await give(town, signed(town.grant("sun", 1)))
    town.clock.pass_s(60)
    await give(town, signed(town.grant("sun", 1, "withdrawn")))
    town.clock.pass_s(3_600)
    await say(town, Step.PASSED_TO_HAN)
    found = await report(town, tmp_path)
    assert found.findings == []
    assert found.looked["acts within a lease after permission had ended"] == 1
    town.clock.pass_s(DAY // SECOND)
    await say(town, Step.PASSED_TO_HAN)
    assert (await report(town, tmp_path)).counted == {"uncovered": 1}


async def test_a_permission_that_has_run_out_covers_nothing(town: Town, tmp_path: Path) -> None:
    await give(town, signed(town.grant("sun", 1)))
    town.clock.pass_s(DAY // SECOND + 60)
    await say(town, *ANSWER)
    (found,) = (await report(town, tmp_path)).findings
    assert "did not run" in found.says


@pytest.mark.parametrize(("operation", "device"), [("turn_off", "TH-1"), ("read", "XX-1")])
async def test_a_permission_covers_its_devices_and_operations_only(
    town: Town, tmp_path: Path, operation: str, device: str
) -> None:
    await give(town, signed(town.grant("sun", 1)))
    await say(town, *ANSWER, operation=operation, device=device)
    (found,) = (await report(town, tmp_path)).findings
    assert "does not allow it" in found.says


async def test_a_permission_that_the_authority_did_not_sign_covers_nothing(
    town: Town, tmp_path: Path
) -> None:
    await give(town, signed(town.grant("sun", 1), Ed25519PrivateKey.generate()))
    await say(town, *ANSWER)
    assert (await report(town, tmp_path)).counted == {"forged": 1, "uncovered": 1}


async def test_letting_go_needs_no_permission(town: Town, tmp_path: Path) -> None:
    await say(town, Step.PASSED_TO_HAN, operation="release")
    assert (await report(town, tmp_path)).findings == []


async def test_an_answer_for_which_permission_was_not_asked_again_is_found(
    town: Town, tmp_path: Path
) -> None:
    await give(town, signed(town.grant("sun", 1)))
    message = await say(town, Step.ANSWER_RECORDED)
    await say(town, Step.HANDING_OVER, message=message)
    (found,) = (await report(town, tmp_path)).findings
    assert "not asked for again" in found.says


async def test_that_nothing_came_from_the_home_may_be_told_without_permission(
    town: Town, tmp_path: Path
) -> None:
    await say(town, Step.TARGET_AUTHENTICATED, Step.HANDING_OVER)
    assert (await report(town, tmp_path)).findings == []
