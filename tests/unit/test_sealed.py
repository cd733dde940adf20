"""What of the settings goes through Ray, and how an actor's machine adds the database's address again."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.config import Sealed, Settings, inherited, load_settings, seal, unseal
from ampd_ray.config.load import SECRETS
from ampd_ray.errors import ConfigError

CANARY = "hunter2"
URL = f"postgresql://amp:{CANARY}@db.example.org:5432/amp"
ELSEWHERE = "postgresql://amp:other@db.example.com:5432/amp"
EVERYTHING = f"""
[metadata_db]
url = "{URL}"
pool_size = 3
[opentelemetry]
metrics_url = "http://metrics.example.org/{CANARY}"
trace_url = "http://{CANARY}@traces.example.org"
[worker_events.kafka]
brokers = ["{CANARY}:9092"]
sasl_username = "{CANARY}"
sasl_password = "{CANARY}"
[ampd_ray]
extractors = 2
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "amp.toml"
    path.write_text(EVERYTHING)
    return load_settings(path, {})


def value_of(settings: Settings, key: tuple[str, ...]) -> Any:
    found: Any = settings
    for name in key:
        found = getattr(found, name, None)
    return found


def test_nothing_secret_is_left_and_all_else_is(settings: Settings) -> None:
    assert all(value_of(settings, key) is not None for key in SECRETS)
    sealed = seal(settings)
    assert {value_of(sealed, key) for key in SECRETS} == {None}
    assert CANARY.encode() not in pickle.dumps(sealed)
    assert (sealed.metadata_db.pool_size, sealed.ampd_ray) == (3, settings.ampd_ray)
    assert sealed.data_dir == settings.data_dir


@pytest.mark.parametrize("part", ["", "metadata_db", "worker_events"])
def test_settings_with_secrets_cannot_be_pickled(settings: Settings, part: str) -> None:
    """Not by mistake either: it is what would hand them to Ray."""
    with pytest.raises(TypeError, match="seal the settings") as raised:
        pickle.dumps(getattr(settings, part) if part else settings)
    assert CANARY not in str(raised.value)


def sent(settings: Settings) -> Sealed:
    """As it arrives at an actor."""
    arrived: Sealed = pickle.loads(pickle.dumps(seal(settings)))
    return arrived


def test_the_file_at_the_same_path_has_the_address(settings: Settings) -> None:
    opened = unseal(sent(settings), {})
    assert opened.metadata_db == settings.metadata_db
    assert opened.file == settings.file


@pytest.mark.parametrize("name", ["AMP_CONFIG_METADATA_DB_URL", "AMP_CONFIG_METADATA_DB__URL"])
def test_the_environment_has_it_where_there_is_no_file(settings: Settings, name: str) -> None:
    assert settings.file is not None
    settings.file.unlink()
    assert unseal(sent(settings), {name: URL}).metadata_db.dsn() == URL


def test_what_a_worker_leaves_to_its_own_processes_is_stronger_than_the_file(settings: Settings) -> None:
    """The address may be made at run time, as a solo environment's is."""
    assert settings.file is not None
    settings.file.write_text(f'[metadata_db]\nurl = "{ELSEWHERE}"\n')
    assert unseal(sent(settings), {}).metadata_db.dsn() == ELSEWHERE
    assert unseal(sent(settings), inherited(settings)).metadata_db.dsn() == URL


def gone(file: Path) -> None:
    file.unlink()


def without(file: Path) -> None:
    file.write_text("")


@pytest.mark.parametrize(
    ("spoil", "reason"), [(gone, "amp.toml does not exist"), (without, "amp.toml has no metadata_db.url")]
)
def test_a_machine_that_does_not_know_it_is_named_with_the_way_out(settings: Settings, spoil: Any, reason: str) -> None:
    sealed = sent(settings)
    spoil(sealed.file)
    with pytest.raises(ConfigError) as raised:
        unseal(sealed, {})
    for told in (reason, "AMP_CONFIG_METADATA_DB_URL", "same path"):
        assert told in raised.value.message


def test_without_a_file_only_the_environment_can_have_it(tmp_path: Path) -> None:
    settings = load_settings(None, {"AMP_CONFIG_METADATA_DB_URL": URL}, solo_dir=tmp_path)
    with pytest.raises(ConfigError, match="no configuration file was given"):
        unseal(sent(settings), {})


@pytest.mark.parametrize("url", [f"mysql://amp:{CANARY}@db/amp", f"postgresql://amp:{CANARY}/x@db/amp"])
def test_an_address_that_is_none_is_not_shown(settings: Settings, url: str) -> None:
    with pytest.raises(ConfigError, match=r"AMP_CONFIG_METADATA_DB__URL on .*: expected") as raised:
        unseal(sent(settings), {"AMP_CONFIG_METADATA_DB__URL": url})
    assert CANARY not in str(raised.value)
