"""Settings: sources, precedence, one report of all problems (spec/metadata-db.md 9.1, 9.2)."""

from __future__ import annotations

import logging
import os
import pickle
from fractions import Fraction
from pathlib import Path

import pytest

from ampd_ray.config import check_directories, create_directories, load_settings, local_path, redacted, seal
from ampd_ray.errors import ConfigError

URL = "postgresql://amp:hunter2@db.example.org:5432/amp"
MINIMAL = {"AMP_CONFIG_METADATA_DB__URL": URL}


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def problems_of(config: Path | None, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(config, MINIMAL if env is None else env)
    assert "hunter2" not in str(caught.value)
    lines = str(caught.value).split("\n  ")
    return lines[1:] if len(lines) > 1 else [lines[0].removeprefix("invalid configuration: ")]


def test_defaults_are_those_of_the_table(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, ""), MINIMAL)
    assert settings.poll_interval_secs == 1
    database = settings.metadata_db
    assert (database.pool_size, database.min_connections, database.auto_migrate) == (10, 3, True)
    assert (database.max_lifetime_secs, database.idle_timeout_secs) == (1800, 600)
    assert settings.writer.compression == ("zstd", 1)
    assert (settings.writer.bytes, settings.writer.rows) == (2147483648, 0)
    assert settings.writer.overflow == Fraction(1)
    assert settings.writer.segment_flush_interval_secs == 600
    assert settings.writer.collector.deletion_lock_duration == 1800
    assert settings.admin_api_addr == "0.0.0.0:1610"
    assert settings.ampd_ray.takeover
    assert settings.ampd_ray.lease_ttl_secs == 4
    assert settings.ampd_ray.memory_bytes is None
    assert settings.ampd_ray.failover_group.endswith(f":{tmp_path}/data")


def test_directories_default_to_the_config_files_folder_unless_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    written(folder, 'providers_dir = "../shared"\nmanifests_dir = "s3://bucket/manifests"\n')
    monkeypatch.chdir(tmp_path)
    settings = load_settings(Path("etc/config.toml"), MINIMAL)  # a relative path is applied once
    assert settings.data_dir == str(folder / "data")
    assert settings.providers_dir == str(tmp_path / "shared")
    assert settings.manifests_dir == "s3://bucket/manifests/"
    assert not (folder / "data").exists()


def test_file_urls_become_paths(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, f'data_dir = "file://{tmp_path}/my%20data/"'), MINIMAL)
    assert settings.data_dir == f"{tmp_path}/my data"
    assert local_path(settings.data_dir) == tmp_path / "my data"
    assert local_path("s3://bucket/x/") is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ftp://host/x", "expected a path or a URL"),
        ("s3:/bucket/x", "expected s3:// with two slashes"),
        ("", "got an empty text"),
        ("file://elsewhere/x", "expected file:///an/absolute/path"),
        ("s3://key:hunter2@bucket/x", "credentials belong in"),
    ],
)
def test_a_directory_must_be_a_path_or_a_known_url(tmp_path: Path, value: str, expected: str) -> None:
    (problem,) = problems_of(written(tmp_path, f'data_dir = "{value}"'))
    assert problem.startswith("data_dir (")
    assert expected in problem


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    config = written(tmp_path, "poll_interval_secs = 5\n[writer]\nbytes = 7\nrows = 8\n")
    env = MINIMAL | {
        "AMP_CONFIG_POLL_INTERVAL_SECS": "0.5",
        "amp_config_Writer__Bytes": "9",
        "AMP_CONFIG_WRITER__COMPACTOR": '{ active = true, overflow = "3/2" }',
        "AMP_CONFIG_WORKER_EVENTS__KAFKA__BROKERS": '["a:9092", "b:9092"]',
        "AMP_CONFIG_AMPD_RAY__NETWORKS__MAINNET": "1",
        "AMP_CONFIG_AMPD_RAY__FAILOVER_GROUP": "007",  # text keys are taken as they are
        "AMP_CONFIG": "elsewhere.toml",
    }
    settings = load_settings(config, env)
    assert settings.poll_interval_secs == 0.5
    assert (settings.writer.bytes, settings.writer.rows) == (9, 8)
    assert settings.writer.compactor.active
    assert settings.writer.compactor.overflow == Fraction(3, 2)
    assert settings.worker_events.kafka
    assert settings.worker_events.kafka.brokers == ("a:9092", "b:9092")
    assert settings.ampd_ray.networks == {"mainnet": 1}
    assert settings.ampd_ray.failover_group == "007"


def test_the_users_spelling_of_the_database_url_works_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(written(tmp_path, ""), {"AMP_CONFIG_METADATA_DB_URL": URL})
    assert settings.metadata_db.url
    assert settings.metadata_db.url.get_secret_value() == URL
    assert not caplog.records


def test_deprecated_keys_warn_and_lose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = written(tmp_path, f'metadata_db_url = "{URL}"\ndataset_defs_dir = "defs"\n')
    settings = load_settings(config, {})
    assert settings.manifests_dir == str(tmp_path / "defs")
    assert settings.metadata_db.url
    assert {record.message for record in caplog.records} == {
        "metadata_db_url is deprecated: write metadata_db.url",
        "dataset_defs_dir is deprecated: write manifests_dir",
    }
    caplog.clear()
    config = written(tmp_path, f'[metadata_db]\nurl = "{URL}"\n')
    settings = load_settings(config, {"AMP_CONFIG_METADATA_DB_URL": "postgres://elsewhere/amp"})
    assert settings.metadata_db.url
    assert settings.metadata_db.url.get_secret_value() == URL
    (record,) = caplog.records
    assert record.message == (
        f"AMP_CONFIG_METADATA_DB_URL is ignored: metadata_db.url is set in {config}, "
        "over which AMP_CONFIG_METADATA_DB__URL would count"
    )


def test_aliases_are_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "[worker_events]\nprogress_interval_secs = 3\n[writer.garbage_collector]\nactive = true\n"
    settings = load_settings(written(tmp_path, text), MINIMAL)
    assert settings.worker_events.progress_interval == 3
    assert settings.writer.collector.active
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "active", "collects"),
    [
        ("", False, True),
        ("[writer.collector]\nmin_interval = 5\n", False, True),
        ("[writer.collector]\nactive = false\n", False, False),
        ("[writer.garbage_collector]\nactive = false\n", False, False),
        ("[writer.collector]\nactive = true\n", True, True),
    ],
)
def test_replaced_files_are_collected_unless_that_is_switched_off(
    tmp_path: Path, text: str, active: bool, collects: bool
) -> None:
    collector = pickle.loads(pickle.dumps(seal(load_settings(written(tmp_path, text), MINIMAL)))).writer.collector
    assert (collector.active, collector.collects) == (active, collects)


def test_a_key_that_nobody_reads_is_accepted_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_settings(written(tmp_path, "[writer.compactor]\nmax_eager_generation = 3\n"), MINIMAL)
    assert "max_eager_generation has no effect" in caplog.text


def test_every_problem_stands_in_one_report(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        'poll_interval = 3\nspill_location = ["x", 5]\n[metadata_db]\npool_size = "ten"\n[writer]\nrows = -1\n'
        'compression = "zip"\n[worker_events.kafka]\ntopic = "t"\n[ampd_ray]\nlease_ttl_secs = 1\n',
    )
    assert problems_of(config, {"AMP_CONFIG_WRITER_BYTES": "5", "AMP_CONFIG_WRITER": "3"}) == [
        f"poll_interval ({config}): unknown key; did you mean poll_interval_secs?",
        "writer (AMP_CONFIG_WRITER): expected a table, got 3",
        "writer_bytes (AMP_CONFIG_WRITER_BYTES): unknown key; did you mean AMP_CONFIG_WRITER__BYTES?",
        "metadata_db.url: set nowhere; set it in [metadata_db] or as AMP_CONFIG_METADATA_DB_URL",
        f"metadata_db.pool_size ({config}): expected a valid integer, got 'ten'",
        f"writer.compression ({config}): expected one of zstd, zstd(1..22), lz4, gzip, brotli, snappy, uncompressed,"
        " got 'zip'",
        f"writer.rows ({config}): expected greater than or equal to 0, got -1",
        "worker_events.kafka.brokers: required in [worker_events.kafka]",
        f"spill_location ({config}): expected a valid string, got ['x', 5]",
        f"ampd_ray.lease_ttl_secs ({config}): expected greater than or equal to 3, got 1",
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[metadata_db]\npoolsize = 3", "metadata_db.pool_size"),
        ("[metdata_db]\nurl = 'x'", "metadata_db.url"),
        ("compression = 'zstd'", "writer.compression"),
        ("[ray]\nextractors = 3", "ampd_ray.extractors"),
        ("[writer.colector]\nactive = true", "writer.collector.active"),
    ],
)
def test_a_typo_names_the_nearest_key(tmp_path: Path, text: str, meant: str) -> None:
    (problem,) = problems_of(written(tmp_path, text))
    assert problem.endswith(f"unknown key; did you mean {meant}?")


def test_an_empty_unknown_table_is_no_secret_success(tmp_path: Path) -> None:
    assert "unknown key" in problems_of(written(tmp_path, "[wrter]\n"))[0]
    load_settings(written(tmp_path, "[writer]\n[ampd_ray.networks]\n"), MINIMAL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[metadata_db]\nurl = 5", "a secret, not shown"),
        ("[metadata_db]\nurl = 'mysql://u:hunter2@h/d'", "expected a URL such as postgresql://"),
        ("[worker_events.kafka]\nbrokers = ['a']\nsasl_password = ['hunter2']", "a secret, not shown"),
        ("[metadata_db]\nauto_migrate = 1", "expected a valid boolean, got 1"),
        ("data_dir = 5", "expected a valid string, got 5"),
        ("[data_dir]\nx = 1", "expected a valid string, got {'x': 1}"),
        ("poll_interval_secs = nan", "expected a finite number, got nan"),
        ("poll_interval_secs = 0", "expected greater than 0, got 0"),
        ("admin_api_addr = 'nowhere'", "expected an address such as"),
        ("[writer]\noverflow = '1/0'", "expected a positive number"),
        ("[writer]\noverflow = true", "expected a positive number"),
        ("[writer]\ncompression = 'zstd(23)'", "expected one of zstd"),
        ("[writer]\ncompression = 5", "expected one of zstd"),
        ("[metadata_db]\npool_size = 2\nmin_connections = 3", "3 is above pool_size, 2"),
        ("[ampd_ray]\nextractors = 3\nmin_extractors = 4", "4 is above extractors, 3"),
        ("[ampd_ray]\nextractor_cpus = 0.00001", "expected greater than or equal to 0.0001, got 1e-05"),
        ("[ampd_ray]\nextractor_resources = { CPU = 2.0 }", "CPUs are extractor_cpus"),
        ("[ampd_ray]\nextractor_labels = { 'a b' = 'c' }", 'expected labels such as { "ray.io/market-type" = "spot" }'),
        ("[ampd_ray.networks]\nmainnet = '1'", "expected a valid integer, got '1'"),
        ("[opentelemetry]\nmetrics_url = ['https://h/key/hunter2']", "got ['https://h']"),
    ],
)
def test_a_wrong_value_names_key_and_expectation(tmp_path: Path, text: str, expected: str) -> None:
    env = {} if "url" in text and "metadata_db" in text else MINIMAL
    (problem,) = problems_of(written(tmp_path, text), env)
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("zstd", ("zstd", 1)),
        ("ZSTD(22)", ("zstd", 22)),
        ("Lz4", ("lz4", None)),
        ("gzip", ("gzip", None)),
        ("brotli", ("brotli", None)),
        ("snappy", ("snappy", None)),
        ("uncompressed", ("none", None)),
    ],
)
def test_compression_is_parsed(tmp_path: Path, text: str, codec: tuple[str, int | None]) -> None:
    env = MINIMAL | {"AMP_CONFIG_WRITER__COMPRESSION": text}
    assert load_settings(written(tmp_path, ""), env).writer.compression == codec


def test_a_ratio_is_clamped(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "[opentelemetry]\ntrace_ratio = 3"), MINIMAL)
    assert settings.opentelemetry.trace_ratio == 1


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "none.toml", {}) == [f"the config file {tmp_path}/none.toml does not exist"]
    assert "is not valid TOML" in problems_of(written(tmp_path, "a = "), {})[0]
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in problems_of(tmp_path / "config.toml", {})[0]
    assert "cannot be read" in problems_of(tmp_path, {})[0]


def test_solo_needs_no_file_and_no_database(tmp_path: Path) -> None:
    amp = tmp_path / "amp"
    settings = load_settings(None, {}, solo_dir=amp)
    assert settings.metadata_db.url is None
    assert settings.manifests_dir == str(amp / "manifests")
    assert not settings.ampd_ray.takeover
    assert not amp.exists()
    create_directories(settings)
    check_directories(settings)
    written(amp, 'data_dir = "../elsewhere"\n[ampd_ray]\ntakeover = true\n')
    settings = load_settings(None, {}, solo_dir=amp)
    assert settings.data_dir == str(tmp_path / "elsewhere")
    assert settings.ampd_ray.takeover


def test_unusable_directories_are_all_reported(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, ""), MINIMAL)
    (tmp_path / "providers").write_text("a file")
    (tmp_path / "manifests").mkdir()
    with pytest.raises(ConfigError) as caught:
        check_directories(settings)
    assert f"data_dir: the directory {tmp_path}/data does not exist" in str(caught.value)
    assert f"providers_dir: {tmp_path}/providers is not a directory" in str(caught.value)
    assert "manifests_dir" not in str(caught.value)


def test_a_directory_without_permission_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(written(tmp_path, ""), MINIMAL)
    create_directories(settings)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write everywhere
    with pytest.raises(ConfigError, match="data is not writable for this user"):
        check_directories(settings)


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "amp").write_text("a file")
    with pytest.raises(ConfigError, match="data_dir: cannot create"):
        create_directories(load_settings(None, {}, solo_dir=tmp_path / "amp"))


def test_settings_travel_and_print_without_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ampd_ray")
    text = "[opentelemetry]\ntrace_url = 'https://otel.example.org/v1/hunter2'\n[writer]\noverflow = '3/2'\n"
    text += "[worker_events.kafka]\nbrokers = ['https://user:hunter2@broker']\nsasl_password = 'hunter2'\n"
    settings = load_settings(written(tmp_path, text), MINIMAL)
    sealed = seal(settings)
    assert pickle.loads(pickle.dumps(sealed)) == sealed
    shown = redacted(settings)
    assert shown["opentelemetry"]["trace_url"] == "https://otel.example.org"
    assert shown["writer"]["overflow"] == "3/2"
    for text in (str(shown), repr(settings), caplog.text, str(caplog.records[-1].__dict__)):
        assert "hunter2" not in text
