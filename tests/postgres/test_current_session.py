"""Sessions by every kind of target, and which of them is current."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

import ampd_ray as amp
from ampd_ray.client import current, solo
from ampd_ray.config import load_settings
from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.schema import migrate
from tests.fakes.devnet import Devnet
from tests.postgres.handles import register_worker
from tests.servers import run_apart


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory without anything that would lead elsewhere; sessions that are left open there are closed."""
    monkeypatch.chdir(tmp_path)
    for name in ("AMP_CONFIG", "AMP_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("data", "providers", "manifests"):
        (tmp_path / name).mkdir()
    yield tmp_path
    current._close_all()


@pytest.fixture
def config(place: Path, pg_url: str) -> Path:
    path = place / "amp.toml"
    path.write_text(f'[metadata_db]\nurl = "{pg_url}"\n')
    return path


def test_the_newest_open_session_is_current(config: Path, pg_url: str) -> None:
    first = amp.connect(config)
    assert current.session() is first
    with amp.connect(pg_url) as second:
        assert current.session() is second
    assert current.session() is first
    first.close()
    with pytest.raises(amp.ConfigError, match="which database"):
        amp.jobs()


def test_without_a_session_the_configuration_of_the_environment_is_used(
    config: Path, monkeypatch: pytest.MonkeyPatch, devnet: Devnet
) -> None:
    monkeypatch.setenv("AMP_CONFIG", str(config))
    assert amp.jobs() == []
    session = current.session()
    register_worker(session)
    job = amp.backfill(rpc=devnet.url, blocks="0:10")
    assert current.session() is session
    assert amp.job(job.id).span == job.span


def test_a_database_has_the_directories_that_are_given_else_those_of_the_configuration(
    config: Path, pg_url: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('data_dir = "other"\n[metadata_db]\nurl = "postgresql://nowhere.example/x"\n')
    monkeypatch.setenv("AMP_CONFIG", str(config))
    with amp.connect(pg_url, providers_dir="mine", manifests_dir="file:///mine/too") as client:
        settings = client.settings
    assert settings.data_dir == str(place / "other")
    assert (settings.providers_dir, settings.manifests_dir) == (str(place / "mine"), "/mine/too")


def test_a_solo_environment_has_its_own_directories_and_must_be_there(place: Path) -> None:
    (place / ".amp").mkdir()
    with pytest.raises(amp.NotFound, match="no solo environment"):
        amp.connect(".amp")
    with pytest.raises(amp.ConfigError, match="data_dir"):
        amp.connect(".amp", data_dir="elsewhere")


def test_a_session_names_its_host_and_no_secret(pg_url: str, place: Path) -> None:
    with amp.connect(pg_url) as client:
        assert repr(client) == f"<Client postgresql://{client.db.name}, data in {place / 'data'}>"
    assert repr(client).endswith(", closed>")
    with pytest.raises(amp.DatabaseUnavailable) as raised:
        amp.connect("postgresql://user:s3cret@127.0.0.1:1/amp")
    assert "s3cret" not in str(raised.value)


def test_a_wrong_range_is_said_before_anything_is_started(place: Path) -> None:
    with pytest.raises(amp.InvalidRange):
        amp.backfill(rpc="http://127.0.0.1:1", blocks="9:1")
    assert not (place / ".amp").exists()


def test_a_process_that_ends_closes_what_it_left_open(server_dir: Path) -> None:
    postgres = EmbeddedPostgres(server_dir / "metadb")
    url = postgres.start()
    run_apart(lambda: migrate(url))
    postgres.stop()
    code = "import sys, ampd_ray as amp; amp.connect(sys.argv[1]); print(amp.jobs())"
    command = [sys.executable, "-X", "dev", "-c", code, str(server_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert not postgres.running()


def test_who_only_looked_at_a_solo_environment_gets_one_that_works_for_a_backfill(
    pg_url: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / ".amp").mkdir()
    settings = load_settings(None, {"AMP_CONFIG_METADATA_DB_URL": pg_url})
    looking, working = amp.Client(settings), amp.Client(settings)
    monkeypatch.setattr(solo, "inspect", lambda directory: looking)
    monkeypatch.setattr(solo, "local", lambda directory: working)
    assert amp.jobs() == []
    assert current.session() is looking
    assert current.working_session() is working
    assert current.session() is current.working_session() is working
    working.close()
    assert current.session() is looking


def test_threads_that_begin_at_once_share_one_session(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMP_CONFIG", str(config))
    begin = Barrier(6)

    def ask() -> amp.Client:
        begin.wait(10)
        return current.session()

    with ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(ask) for _ in range(6)]
    assert len({id(each.result()) for each in asked}) == 1
