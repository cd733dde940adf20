"""Provider files: keys, variables, what is skipped and why (spec/data.md 2.1)."""

from __future__ import annotations

import pickle
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ampd_ray.errors import AmpdError, ConfigError, InvalidName, NotFound, ProviderMissing, StoreError, StoreUnavailable
from ampd_ray.providers import registry
from ampd_ray.providers.registry import (
    ProviderConfig,
    find,
    find_by_name,
    list_providers,
    load_providers,
    provider_file,
    remove_provider,
    usable,
    write_provider,
)
from ampd_ray.store import buckets, objects
from tests.fakes.object_stores import S3Server, environment

GOOD = 'kind = "evm-rpc"\nnetwork = "mainnet"\nurl = "https://user:hunter2@eth.example.org:8545/v3/hunter2?k=hunter2"\n'
WITHOUT_USER = GOOD.replace("user:hunter2@", "")  # a token and a user in the url exclude each other


@pytest.fixture(autouse=True)
def _forget_warnings() -> Iterator[None]:
    yield
    registry._warn_once.cache_clear()


def put(folder: Path, name: str, text: str = GOOD) -> None:
    (folder / f"{name}.toml").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def error_of(folder: Path, text: str) -> str:
    put(folder, "bad", text)
    (listed,) = list_providers(str(folder))
    assert listed.config is None
    assert listed.error
    assert "hunter2" not in listed.error
    return listed.error


def test_a_file_with_all_keys(tmp_path: Path) -> None:
    text = WITHOUT_USER + 'auth_token = "t"\nauth_header = "X-Api-Key"\nrate_limit_per_minute = 600\ntimeout_secs = 5\n'
    text += "concurrent_request_limit = 0\nrpc_batch_size = 50\nfetch_receipts_per_tx = true\n"
    put(tmp_path, "alchemy_1", text + '[ampd_ray]\nintegrity = "basic"\n')
    (config,) = load_providers(f"file://{tmp_path}")
    assert (config.name, config.kind, config.network) == ("alchemy_1", "evm-rpc", "mainnet")
    assert (config.rate_limit_per_minute, config.concurrent_request_limit, config.rpc_batch_size) == (600, 1, 50)
    assert config.auth_token
    assert (config.auth_token.get_secret_value(), config.auth_header) == ("t", "X-Api-Key")
    assert config.fetch_receipts_per_tx
    assert config.timeout_secs == 5
    assert config.ampd_ray.integrity == "basic"
    assert pickle.loads(pickle.dumps(config)) == config


def test_defaults(tmp_path: Path) -> None:
    put(tmp_path, "a")
    config = find_by_name(str(tmp_path), "a")
    assert (config.concurrent_request_limit, config.rpc_batch_size, config.timeout_secs) == (1024, 0, 30)
    assert (config.rate_limit_per_minute, config.auth_token, config.fetch_receipts_per_tx) == (None, None, False)
    assert config.ampd_ray.integrity == "strict"


def test_only_hosts_are_shown(tmp_path: Path) -> None:
    put(tmp_path, "a", WITHOUT_USER + 'auth_token = "hunter2"\n')
    put(tmp_path, "b", GOOD.replace("https://user:hunter2@eth.example.org:8545", "${RPC_URL}"))
    put(tmp_path, "c", 'kind = "evm-rpc"\nnetwork = "n"\nurl = "ipc:///run/geth.ipc"')
    listed = list_providers(str(tmp_path))
    assert [one.describe()["host"] for one in listed] == ["eth.example.org:8545", "(from the environment)", "geth.ipc"]
    malformed = ProviderConfig(name="d", network="n", url=SecretStr("https://[hunter2"))
    assert repr(malformed) == "ProviderConfig(d: evm-rpc, n, (malformed address))"
    for one in listed:
        assert "hunter2" not in f"{one!r}{one.config}{one.describe()}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file is empty"),
        ("kind = ", "not valid TOML"),
        ("kind = 'evm-rpc'\nurl = 'http://h'", "network: Field required"),
        ("network = 'n'\nurl = 'http://h'", "kind is missing"),
        (GOOD.replace("evm-rpc", "firehose"), "kind: expected 'evm-rpc'"),
        (GOOD.replace('"mainnet"', '""'), "network: String should have at least 1 character"),
        (GOOD.replace('"mainnet"', '"${NETWORK}"'), "network: must not hold a variable"),
        (GOOD.replace('"evm-rpc"', '"${KIND}"'), "kind: expected 'evm-rpc'"),
        (GOOD.replace("https", "ftp"), "url must begin with one of http://, https://, ws://, wss://, ipc://"),
        (GOOD.replace(":8545", ":x8545"), "url has a malformed host or port"),
        (GOOD + "auth_token = 't'", "both auth_token and a user in the url"),
        (GOOD + "rate_limit_per_minute = 0", "rate_limit_per_minute: expected greater than or equal to 1"),
        (GOOD + "concurrent_request_limit = 65536", "concurrent_request_limit: expected less than 65536"),
        (GOOD + "timeout_secs = '5'\nrpc_batch_size = -1", "rpc_batch_size: expected greater than or equal to 0; "),
        (GOOD + "auth_header = 'X Key'", "auth_header: String should match"),
        (GOOD + "auth_token = ['hunter2']", "auth_token: expected a valid string"),
        (GOOD + "[ampd_ray]\nintegrity = 'lax'", "ampd_ray.integrity: expected 'strict' or 'basic'"),
    ],
)
def test_a_file_that_cannot_be_used_has_a_reason(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in error_of(tmp_path, text)


def test_bad_files_are_skipped_with_one_line_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "Ill-Named")
    put(tmp_path, "empty", "")
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.toml").mkdir()
    put(tmp_path, "good")
    for _ in range(3):
        assert [config.name for config in load_providers(str(tmp_path))] == ["good"]
    assert sorted(record.message.split(" is skipped: ")[0] for record in caplog.records) == [
        "provider file Ill-Named.toml",
        "provider file binary.toml",
        "provider file empty.toml",
        "provider file notes.txt",
    ]


def test_unknown_keys_are_accepted_and_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "a", GOOD + "timeout = 5\nsecret = '${UNSET}'\n[ampd_ray]\nintegrty = 'basic'\n")
    for _ in range(2):
        usable(str(tmp_path), "evm-rpc", "mainnet", {})
    assert [record.message for record in caplog.records] == [
        "provider a: the key ampd_ray.integrty has no effect; is it a typo?",
        "provider a: the key secret has no effect; is it a typo?",
        "provider a: the key timeout has no effect; is it a typo?",
    ]


def test_an_edit_holds_at_once(tmp_path: Path) -> None:
    put(tmp_path, "a")
    assert find(str(tmp_path), "evm-rpc", "mainnet")
    put(tmp_path, "a", GOOD.replace("mainnet", "sepolia"))
    assert not find(str(tmp_path), "evm-rpc", "mainnet")
    assert find(str(tmp_path), "evm-rpc", "sepolia")


def test_variables_are_replaced_when_used(tmp_path: Path) -> None:
    text = WITHOUT_USER.replace("eth.example.org:8545/v3", "${HOST}/${PATH_1}") + 'auth_token = "a${T}b${T}"\n'
    put(tmp_path, "a", text)
    config = find_by_name(str(tmp_path), "a")
    assert "${HOST}" in config.url.get_secret_value()
    resolved = config.resolved({"HOST": "h:1", "PATH_1": "${T}", "T": "x"})
    assert resolved.url.get_secret_value() == "https://h:1/${T}/hunter2?k=hunter2"
    assert resolved.auth_token
    assert resolved.auth_token.get_secret_value() == "axbx"
    assert resolved.name == "a"
    assert config.resolved({"HOST": "h", "PATH_1": "", "T": "x"}).network == "mainnet"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("${UNSET}", "the environment variable UNSET is not set"),
        ("hunter2${}", "its name or its closing brace is missing"),
        ("${UNSET", "its name or its closing brace is missing"),
    ],
)
def test_a_variable_that_cannot_be_replaced_is_named(tmp_path: Path, token: str, reason: str) -> None:
    put(tmp_path, "a", WITHOUT_USER + f'auth_token = "{token}"\n')
    with pytest.raises(ConfigError, match=f"provider a: .*{reason}") as caught:
        find_by_name(str(tmp_path), "a").resolved({})
    assert "hunter2" not in str(caught.value)


def test_the_first_usable_provider_is_chosen(tmp_path: Path) -> None:
    put(tmp_path, "a", WITHOUT_USER + 'auth_token = "${UNSET}"\n')
    put(tmp_path, "b", GOOD.replace("https://user:hunter2@", "${SCHEME}://"))
    put(tmp_path, "c")
    put(tmp_path, "d", GOOD.replace("mainnet", "sepolia"))
    assert usable(str(tmp_path), "evm-rpc", "mainnet", {"SCHEME": "ftp"})[0].name == "c"
    assert usable(str(tmp_path), "evm-rpc", "mainnet", {"SCHEME": "wss"})[0].name == "b"
    (tmp_path / "c.toml").unlink()
    with pytest.raises(ProviderMissing) as caught:
        usable(str(tmp_path), "evm-rpc", "mainnet", {"SCHEME": "ftp"})
    assert "provider a: the environment variable UNSET is not set" in str(caught.value)
    assert "provider b: url must begin with" in str(caught.value)
    with pytest.raises(ProviderMissing, match="network holesky: add one: ampd providers add"):
        usable(str(tmp_path), "evm-rpc", "holesky", {})


def test_a_provider_that_is_asked_for_by_name_is_taken_and_no_other(tmp_path: Path) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b")
    put(tmp_path, "c", GOOD.replace("mainnet", "sepolia"))
    assert usable(str(tmp_path), "evm-rpc", "mainnet", {}, name="b")[0].name == "b"
    for name in ("c", "d"):
        with pytest.raises(
            ProviderMissing, match=f"named {name} for network mainnet: add one: ampd providers add {name}"
        ):
            usable(str(tmp_path), "evm-rpc", "mainnet", {}, name=name)


def test_written_files_are_read_back_equal(tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "kind": "evm-rpc",
        "network": 'net "ü" \\ \x7f\n',
        "url": "https://h/${KEY}",
        "auth_token": "${TOKEN}",
        "rpc_batch_size": 50,
        "fetch_receipts_per_tx": True,
        "ampd_ray": {"integrity": "basic"},
    }
    written = write_provider(str(tmp_path), "a", keys)
    assert find_by_name(str(tmp_path), "a") == written == ProviderConfig(name="a", **keys)
    assert "timeout_secs" not in (tmp_path / "a.toml").read_text()
    assert stat.S_IMODE((tmp_path / "a.toml").stat().st_mode) == 0o600
    assert names(tmp_path) == ["a.toml"]


def test_a_file_with_other_settings_is_replaced_on_demand_only(tmp_path: Path) -> None:
    directory, keys = str(tmp_path), {"kind": "evm-rpc", "network": "n", "url": "http://h"}
    write_provider(directory, "a", keys)
    before = (tmp_path / "a.toml").stat().st_mtime_ns
    write_provider(directory, "a", keys | {"timeout_secs": 30})
    assert (tmp_path / "a.toml").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="provider a exists with other settings"):
        write_provider(directory, "a", keys | {"url": "http://i"})
    assert find_by_name(directory, "a").host == "h"
    write_provider(directory, "a", keys | {"url": "http://i"}, replace=True)
    assert find_by_name(directory, "a").host == "i"
    assert names(tmp_path) == ["a.toml"]


@pytest.mark.parametrize(
    ("name", "keys", "error"),
    [
        ("A b", {}, InvalidName),
        ("../a", {}, InvalidName),
        ("a", {"url": "ftp://h"}, ConfigError),
        ("a", {"network": ""}, ConfigError),
        ("a", {"timeout_secs": "x"}, ConfigError),
    ],
)
def test_nothing_unusable_is_written(tmp_path: Path, name: str, keys: dict[str, Any], error: type[AmpdError]) -> None:
    with pytest.raises(error):
        write_provider(str(tmp_path), name, {"network": "n", "url": "http://h"} | keys)
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("url", "token", "told"),
    [
        ("http://10.0.0.5:8545", "secret-token", True),
        ("ws://user:hunter2@node.internal", None, True),
        ("http://127.0.0.1.example.com", "secret-token", True),
        ("https://10.0.0.5:8545", "secret-token", False),
        ("http://10.0.0.5:8545/a-long-path", None, False),
        ("http://127.0.0.1:8545", "secret-token", False),
        ("ws://[::1]:8545", "secret-token", False),
    ],
)
def test_a_token_that_can_be_read_on_the_way_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, token: str | None, told: bool
) -> None:
    write_provider(
        str(tmp_path), "p", {"kind": "evm-rpc", "network": "n", "url": url} | ({"auth_token": token} if token else {})
    )
    assert len(usable(str(tmp_path), "evm-rpc", "n", {})) == 1
    assert ["token can be read on the way" in record.message for record in caplog.records] == [True] * told
    assert "secret-token" not in caplog.text
    assert "hunter2" not in caplog.text


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no provider a"):
        find_by_name(str(tmp_path), "a")
    put(tmp_path, "b", "kind = ")
    with pytest.raises(ConfigError, match=r"b\.toml: not valid TOML"):
        find_by_name(str(tmp_path), "b")
    gone = str(tmp_path / "gone")
    with pytest.raises(StoreError, match=r"cannot read providers_dir .* no such directory; create it"):
        list_providers(gone)
    with pytest.raises(StoreError, match="cannot write"):
        write_provider(gone, "a", {"network": "n", "url": "http://h"})


def test_a_file_may_be_a_link_as_in_a_mounted_secret(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    put(tmp_path / "..data", "a")
    (tmp_path / "a.toml").symlink_to("..data/a.toml")
    assert [listed.name for listed in list_providers(str(tmp_path))] == ["a"]


def test_provider_files_in_an_object_store(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    directory, keys = moto.url("some/providers/"), {"network": "mainnet", "url": "https://h/${KEY}"}
    assert list_providers(directory) == []
    with pytest.raises(NotFound):
        find_by_name(directory, "a")
    written = write_provider(directory, "a", keys)
    assert write_provider(directory, "a", keys) == find_by_name(directory, "a") == written
    with pytest.raises(ConfigError, match="other settings"):
        write_provider(directory, "a", keys | {"url": "http://i"})
    write_provider(directory, "a", keys | {"url": "http://i"}, replace=True)
    assert [config.host for config in usable(directory, "evm-rpc", "mainnet", {})] == ["i"]
    assert provider_file(directory, "a") == f"{directory}a.toml"
    remove_provider(directory, "a")
    with pytest.raises(NotFound):
        remove_provider(directory, "a")


def test_a_store_that_is_away_is_no_file_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(buckets.RETRY, "max_retries", 0)
    monkeypatch.setattr(objects, "AGAIN_AFTER_SECS", ())
    for name, value in environment("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    for attempt in (list_providers, lambda directory: find_by_name(directory, "a")):
        with pytest.raises(StoreUnavailable):
            attempt("s3://bucket/providers/")


# -- prices ---------------------------------------------------------------------------------------------------------

PRICE = "[ampd_ray.price]\nunits = { eth_getBlockByNumber = 16, default = 20.5 }\nper_million_units = 0.4\n"


def test_a_price_stands_in_our_table_and_is_read_and_written(tmp_path: Path) -> None:
    put(tmp_path, "a", GOOD + PRICE)
    price = find_by_name(str(tmp_path), "a").ampd_ray.price
    assert price is not None
    assert [price.units_of(method) for method in ("eth_getBlockByNumber", "eth_getBlockReceipts")] == [16, 20.5]
    assert price.cost_of(2_500_000) == pytest.approx(1.0)
    assert price.currency == "USD"
    config = find_by_name(str(tmp_path), "a")
    (tmp_path / "other").mkdir()
    write_provider(str(tmp_path / "other"), "a", config.keys())
    assert find_by_name(str(tmp_path / "other"), "a") == config
    assert config.resolved({}).ampd_ray.price == price


@pytest.mark.parametrize(
    ("price", "says"),
    [
        (PRICE.replace(", default = 20.5", ""), 'eth_getBlockReceipts, eth_getTransactionReceipt too, or "default"'),
        (PRICE.replace("20.5", "-1"), "ampd_ray.price.units.default: expected greater than or equal to 0"),
        (PRICE.replace("20.5", '"20"'), "ampd_ray.price.units.default: expected a valid number"),
        (PRICE.replace("per_million_units", "per_milion_units"), "ampd_ray.price.per_million_units: Field required"),
        (PRICE.replace("0.4", "inf"), "ampd_ray.price.per_million_units: expected a finite number"),
        (PRICE.replace("0.4", "1e300"), "ampd_ray.price.per_million_units: expected less than or equal to"),
        (PRICE + 'currency = "dollars"\n', "ampd_ray.price.currency: String should match"),
        ("[ampd_ray]\nprice = 3\n", "ampd_ray.price: expected a valid dictionary"),
    ],
)
def test_a_wrong_price_is_named(tmp_path: Path, price: str, says: str) -> None:
    assert says in error_of(tmp_path, GOOD + price)


def test_an_unknown_key_of_a_price_is_a_typo(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "a", GOOD + PRICE + "per_call = 1\n")
    find_by_name(str(tmp_path), "a")
    assert "the key ampd_ray.price.per_call has no effect" in caplog.text
