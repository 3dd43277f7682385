"""Keys that sign are changed in three steps, and everybody believes a key before anybody signs with it."""

import random
from pathlib import Path

from doorward.ccs.engines.keys import Rotated, Rotation, load_keys, rotate


def test_a_key_is_published_before_it_signs_and_believed_until_it_is_retired(tmp_path: Path) -> None:
    dice = random.SystemRandom()
    first = load_keys(tmp_path, dice).token
    assert list(first.public) == [first.kid]

    assert rotate(tmp_path, Rotated.TOKEN) is Rotation.PUBLISHED
    published = load_keys(tmp_path, dice).token
    (coming,) = set(published.public) - {first.kid}
    assert published.kid == first.kid

    assert rotate(tmp_path, Rotated.TOKEN) is Rotation.SIGNS
    signing = load_keys(tmp_path, dice).token
    assert (signing.kid, set(signing.public)) == (coming, {coming, first.kid})

    assert rotate(tmp_path, Rotated.TOKEN) is Rotation.RETIRED
    retired = load_keys(tmp_path, dice).token
    assert (retired.kid, set(retired.public)) == (coming, {coming})


def test_one_key_is_changed_and_no_other(tmp_path: Path) -> None:
    dice = random.SystemRandom()
    before = load_keys(tmp_path, dice)
    for _ in Rotation:
        rotate(tmp_path, Rotated.WEBHOOK)
    after = load_keys(tmp_path, dice)
    assert after.webhook.kid != before.webhook.kid
    assert (after.token.kid, after.link) == (before.token.kid, before.link)
