"""Charging profiles are composed as the standard says."""

from doorward.simulate.equipment.charging_profiles import DAY_S, US, Profile, composite, limit_at

NOW = 20_000 * DAY_S * US + 6 * 3600 * US  # six in the morning of some day


def profile(*periods: tuple[int, float], **how: object) -> Profile:
    given: dict[str, object] = {
        "id": 1,
        "purpose": "ChargePointMaxProfile",
        "stack": 0,
        "recurring": False,
        "start_us": NOW,
        "periods": periods,
        **how,
    }
    return Profile(**given)  # type: ignore[arg-type]


def test_without_profiles_the_charger_gives_what_it_can() -> None:
    assert composite([], NOW, 60, 7400) == [(0, 7400)]


def test_within_a_purpose_the_higher_level_decides_and_over_purposes_the_least() -> None:
    profiles = [
        profile((0, 1000.0)),
        profile((0, 3000.0), stack=1),
        profile((0, 2000.0), purpose="TxDefaultProfile"),
    ]
    assert limit_at(profiles[:2], NOW, 7400) == 3000
    assert limit_at(profiles, NOW, 7400) == 2000


def test_a_profile_ends_at_its_end_and_after_its_duration() -> None:
    until = profile((0, 1000.0), valid_to_us=NOW + 30 * US)
    short = profile((0, 1000.0), duration_s=20)
    assert composite([until], NOW, 60, 7400) == [(0, 1000), (30, 7400)]
    assert composite([short], NOW, 60, 7400) == [(0, 1000), (20, 7400)]


def test_a_daily_profile_goes_on_over_midnight() -> None:
    midnight = NOW - 6 * 3600 * US
    daily = profile((0, 1000.0), (8 * 3600, 5000.0), recurring=True, start_us=midnight, duration_s=DAY_S)
    assert composite([daily], NOW, DAY_S, 7400) == [(0, 1000), (2 * 3600, 5000), (18 * 3600, 1000)]
    assert composite([daily], NOW + 3 * DAY_S * US, DAY_S, 7400)[0] == (0, 1000)
