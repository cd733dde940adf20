"""What ``amp.connect`` may be given."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampd_ray.client.request import BackfillRequest
from ampd_ray.client.target import ConfigFile, DatabaseUrl, SoloDirectory, target_of
from ampd_ray.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "url", ["postgresql://user:pw@db:5432/amp", "postgres://db/amp", "postgresql:///amp?host=/run"]
)
def test_a_postgres_url_is_a_database(url: str) -> None:
    assert target_of(url, {"AMP_CONFIG": "other.toml"}) == DatabaseUrl(url)


def test_a_file_is_a_configuration_also_one_that_is_not_there_yet(here: Path) -> None:
    (here / "amp.conf").touch()
    assert target_of("amp.conf", {}) == ConfigFile(here / "amp.conf")
    assert target_of(Path("absent.toml"), {}) == ConfigFile(here / "absent.toml")  # reading it says that it is absent


def test_a_directory_is_a_solo_environment(here: Path) -> None:
    (here / "mine.toml").mkdir()
    assert target_of("mine.toml", {"AMP_CONFIG": "other.toml"}) == SoloDirectory(here / "mine.toml")


def test_without_a_target_the_environment_says_which(here: Path) -> None:
    (here / ".amp").mkdir()
    (here / "other").mkdir()
    assert target_of(None, {"AMP_CONFIG": "amp.toml", "AMP_DIR": "other"}) == ConfigFile(here / "amp.toml")
    assert target_of(None, {"AMP_DIR": "other"}) == SoloDirectory(here / "other")
    assert target_of(None, {}) == SoloDirectory(here / ".amp")


@pytest.mark.parametrize("given", [None, "nowhere", "mysql://user:s3cret@db/amp", "http://h/amp.toml"])
def test_what_is_none_of_them_is_refused_with_what_may_be_given(given: str | None) -> None:
    with pytest.raises(ConfigError, match=r'"amp.toml".*"postgresql://host/database".*".amp".*amp\.local\(') as raised:
        target_of(given, {})
    assert "s3cret" not in str(raised.value)


def test_a_request_shows_no_key() -> None:
    asked = BackfillRequest("https://user:pass@eth.example.org/v3/0a1b2c", "0:10", auth_token="5e6f")
    assert repr(asked).startswith("BackfillRequest(blocks='0:10'")
    assert not [secret for secret in ("pass", "0a1b2c", "5e6f") if secret in repr(asked)]
