"""Settings that do not go together are refused, each with the one to change."""

from pathlib import Path

import pytest

from doorward.ccs.settings import read_settings


def test_production_does_not_start_with_the_consent_authority_in_its_own_process(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="consent_url: production needs the consent authority in a process"):
        read_settings(profile="production")
    apart = read_settings(profile="production", consent_url="https://c:1", consent_credentials=tmp_path)
    assert apart.consent_url == "https://c:1"


def test_an_authority_apart_is_reached_by_https_and_with_its_own_credentials(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="https://"):
        read_settings(consent_url="http://c:1", consent_credentials=tmp_path)
    with pytest.raises(ValueError, match="go together"):
        read_settings(consent_url="https://c:1")
