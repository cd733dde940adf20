"""What a wrong call gets before anything is started: one clear line within seconds, and the exit code of 9.4.

``spec/metadata-db.md`` 9.1, 9.4, 4, 2.6, 1.2. ``Said.error`` holds every case to one line, to seconds, and to no
traceback and no secret.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ampd_ray.devnet.chain import DevChain
from ampd_ray.store.layout import STAGING
from tests.fakes.ampd import CANARY, Said, ampd, run
from tests.fakes.aside import aside
from tests.fakes.faulty_rpc import FOREVER, Fault, FaultyRpc
from tests.fakes.hosts import dropping_host, free_port, small_disk, talking_host
from tests.fakes.object_stores import environment
from tests.fakes.pooler import pooled
from tests.servers import Server, as_owner

HEAD = 40
IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Place:
    """A folder with a configuration and its three directories."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "amp.toml"

    def configure(self, url: str | None, *lines: str, ours: str = "") -> None:
        """Write the configuration; ``lines`` stand before the first table, ``ours`` in ``[ampd_ray]``."""
        database = f'[metadata_db]\nurl = "{url}"\n' if url else ""
        ours = f"[ampd_ray]\nconnect_timeout_secs = 1\nnode_lock_timeout_secs = 1\n{ours}\n"
        self.config.write_text("\n".join([*lines, database, ours]))

    def worker(self, *more: str | Path, node_id: str = "w1", **env: str) -> Said:
        return ampd("worker", "--config", self.config, "--node-id", node_id, *more, env=env)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("data", "providers", "manifests"):
        (tmp_path / name).mkdir()
    made = Place(tmp_path)
    made.configure(f"postgresql://me:{CANARY}@127.0.0.1:{free_port()}/amp")
    return made


# -- the command line and the configuration -------------------------------------------------------------------------


def test_a_worker_without_a_configuration_is_wrong_usage(tmp_path: Path) -> None:
    said = ampd("worker", "--node-id", "w1", cwd=tmp_path)
    assert (said.code, "give --config PATH, or set AMP_CONFIG" in said.error) == (2, True)


def test_a_worker_without_a_name_is_wrong_usage(place: Place) -> None:
    said = ampd("worker", "--config", place.config)
    assert (said.code, "give --node-id ID, or set AMP_NODE_ID" in said.error) == (2, True)


def test_two_configurations_are_wrong_usage(place: Place) -> None:
    said = ampd("--config", "other.toml", "worker", "--config", place.config, "--node-id", "w1")
    assert (said.code, "given twice with different values" in said.error) == (2, True)


def test_the_same_configuration_before_and_after_the_command_is_fine(place: Place) -> None:
    place.configure("postgresql://127.0.0.1/amp", "pool_interval_secs = 1")
    said = ampd("--config", place.config, "worker", "--config", place.config, "--node-id", "w1")
    assert (said.code, "pool_interval_secs" in said.error) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["wroker"],
        ["worker", "--nodeid", "w1"],
        ["jobs", "show", "first"],
        ["backfill", "--rpc", "http://127.0.0.1:1"],
        ["jobs", "list"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    said = ampd(*arguments, cwd=tmp_path)
    assert (said.code, bool(said.error)) == (2, True)


@pytest.mark.parametrize("node_id", ["9lives", "a:b", "grüße", "x" * 129])
def test_a_node_id_that_breaks_the_rule_is_told_the_rule(place: Place, node_id: str) -> None:
    said = place.worker(node_id=node_id)
    assert (said.code, "start with a letter" in said.error) == (2, True)


SEVERAL = f"""
dat_dir = "x"
poll_interval_secs = "soon"
worker_events = 3
[metadata_db]
url = ["{CANARY}"]
pool_size = 0
[ampd_ray]
extractor = 3
"""
CONFIGS: list[tuple[str, str, list[str]]] = [
    (
        "several",
        SEVERAL,
        [
            "6 problems",
            "dat_dir ({config}): unknown key; did you mean data_dir?",
            "poll_interval_secs ({config}): expected a valid number, got 'soon'",
            "worker_events ({config}): expected a table, got 3",
            "metadata_db.url ({config}): expected a valid string, got a secret, not shown",
            "metadata_db.pool_size ({config}): expected greater than or equal to 1, got 0",
            "ampd_ray.extractor ({config}): unknown key; did you mean ampd_ray.extractors?",
        ],
    ),
    ("not TOML", "poll_interval_secs = = 1", ["{config} is not valid TOML", "line 1"]),
    ("another database", f"[metadata_db]\nurl = 'mysql://u:{CANARY}@h/d'", ["metadata_db.url", "postgresql://user"]),
    ("at sign", f"[metadata_db]\nurl = 'postgresql://u:x@{CANARY}@h/d'", ["metadata_db.url", "%40"]),
    ("slash", f"[metadata_db]\nurl = 'postgresql://u:x/{CANARY}@h/d'", ["metadata_db.url", "%2F"]),
    ("port", f"[metadata_db]\nurl = 'postgresql://u:{CANARY}@h:5l32/d'", ["metadata_db.url", "host:port"]),
    (
        "option",
        f"[metadata_db]\nurl = 'postgresql://u:{CANARY}@h/d?nope=1'",
        ["`metadata_db.url` is not a Postgres URL"],
    ),
    ("no database", "", ["metadata_db.url: set nowhere"]),
]


@pytest.mark.parametrize(("text", "told"), [case[1:] for case in CONFIGS], ids=[case[0] for case in CONFIGS])
def test_a_wrong_configuration_is_told_key_source_and_way_out(place: Place, text: str, told: list[str]) -> None:
    place.config.write_text(text)
    said = place.worker()
    assert said.code == 1
    assert [part for part in told if part.format(config=place.config) not in said.error] == []


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "does not exist"),
        (Path.mkdir, "cannot be read: Is a directory"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8 text"),
    ],
    ids=["missing", "a directory", "not text"],
)
def test_a_configuration_file_that_is_none(tmp_path: Path, make: Callable[[Path], Any], told: str) -> None:
    make(tmp_path / "amp.toml")
    said = Place(tmp_path).worker()
    assert said.code == 1
    assert f"the config file {tmp_path / 'amp.toml'} {told}" in said.error


def test_a_wrong_variable_is_named(place: Place) -> None:
    said = place.worker(AMP_CONFIG_POLL_INTERVAL_SEC="1", AMP_CONFIG_WRITER__BYTES="many")
    assert said.code == 1
    assert "AMP_CONFIG_POLL_INTERVAL_SEC): unknown key; did you mean AMP_CONFIG_POLL_INTERVAL_SECS?" in said.error
    assert "writer.bytes (AMP_CONFIG_WRITER__BYTES): expected a valid integer, got 'many'" in said.error


# -- directories ----------------------------------------------------------------------------------------------------


def test_missing_directories_are_all_named_and_none_is_made(place: Place) -> None:
    (place.folder / "providers").rmdir()
    (place.folder / "manifests").rmdir()
    (place.folder / "manifests").write_text("")
    said = place.worker()
    assert said.code == 1
    assert f"providers_dir: the directory {place.folder / 'providers'} does not exist" in said.error
    assert f"manifests_dir: {place.folder / 'manifests'} is not a directory" in said.error
    assert not (place.folder / "providers").exists()


@pytest.fixture
def read_only(place: Place) -> Iterator[Path]:
    """The data directory, where nothing can be written."""
    data = place.folder / "data"
    if IS_ROOT:  # whom permissions do not stop
        with small_disk(data, 64, "ro"):
            yield data
    else:
        data.chmod(0o500)
        yield data
        data.chmod(0o700)


def test_a_data_directory_that_cannot_be_written_is_named(place: Place, read_only: Path) -> None:
    said = place.worker()
    assert said.code == 1
    assert f"data_dir: the directory {read_only} is not writable" in said.error


@pytest.mark.skipif(not IS_ROOT, reason="mounting a file system of its own takes root")
def test_a_full_disk_is_told_at_the_start(place: Place) -> None:
    with small_disk(place.folder / "data", 16) as disk:
        with pytest.raises(OSError, match="No space left"):
            (disk / "filler").write_bytes(bytes(1 << 20))
        said = place.worker()
    assert said.code == 1
    assert f"cannot write {disk}" in said.error
    assert "No space left on device; free some space" in said.error


def test_an_object_store_that_does_not_answer_is_named(place: Place) -> None:
    place.configure("postgresql://127.0.0.1/amp", 'data_dir = "s3://bucket/chains"')
    said = place.worker(**environment(f"http://127.0.0.1:{free_port()}"))
    assert said.code == 1
    assert "s3://bucket/chains" in said.error
    assert "S3 does not answer" in said.error
    assert "AWS_ENDPOINT_URL" in said.error


@pytest.mark.parametrize(
    "command", [["solo"], ["backfill", "--rpc", "{rpc}", "--blocks", "0:9"]], ids=["solo", "backfill"]
)
def test_a_solo_environment_in_a_place_that_is_none(tmp_path: Path, node: FaultyRpc, command: list[str]) -> None:
    (tmp_path / "file").write_text("")
    said = ampd(*(part.format(rpc=node.url) for part in command), "--amp-dir", tmp_path / "file" / "amp")
    assert said.code == 1
    assert f"cannot use {tmp_path / 'file' / 'amp'}: Not a directory" in said.error


# -- the database ---------------------------------------------------------------------------------------------------


@pytest.fixture
def database(embedded: Server) -> Iterator[Callable[..., str]]:
    """Call it for the URL of a fresh database, the owner's if ``empty``, else migrated, after some statements in it."""
    made: list[str] = []

    def make(*statements: str, empty: bool = False) -> str:
        made.append(embedded.create_database("template0"))
        url = embedded.url_of(made[-1]) if empty else embedded.migrate(made[-1])
        with psycopg.connect(as_owner(url), autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement.format(name=made[-1]).encode())
        return url

    yield make
    for name in made:
        embedded.execute(f"DROP DATABASE {name} WITH (FORCE)")


COMMANDS = [["worker", "--node-id", "w1"], ["migrate"], ["jobs", "list"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_a_database_that_is_down(place: Place, command: list[str]) -> None:
    said = ampd(*command, "--config", place.config)
    assert said.code == 1
    assert "does not answer: Connection refused" in said.error
    assert "Is Postgres running?" in said.error


def test_a_database_whose_host_does_not_exist(place: Place) -> None:
    place.configure(f"postgresql://me:{CANARY}@no-such-host.invalid/amp")
    said = place.worker()
    assert (said.code, "the metadata database at no-such-host.invalid:5432/amp" in said.error) == (1, True)


def test_a_database_behind_a_firewall_that_drops(place: Place) -> None:
    with dropping_host() as host:
        place.configure(f"postgresql://me:{CANARY}@{host}/amp")
        said = place.worker()
    assert (said.code, "does not answer: connection timeout expired" in said.error) == (1, True)


def test_what_is_no_database(place: Place) -> None:
    with aside(lambda: talking_host(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as host:
        place.configure(f"postgresql://me:{CANARY}@{host}/amp?sslmode=disable")
        said = place.worker()
    assert (said.code, f"the metadata database at {host}/amp does not answer" in said.error) == (1, True)


def test_a_database_that_does_not_exist(place: Place, embedded: Server) -> None:
    place.configure(embedded.url_of("nowhere"))
    said = place.worker()
    assert (said.code, "there is no such database: create it, or correct the name" in said.error) == (1, True)


def test_a_user_that_does_not_exist(place: Place, embedded: Server) -> None:
    place.configure(embedded.url.replace("postgres@", f"nobody:{CANARY}@"))
    said = place.worker()
    assert (said.code, "there is no such user" in said.error) == (1, True)


@pytest.mark.parametrize(
    ("statements", "empty", "told"),
    [
        ([], True, "is empty: it is at version 0 of schema ampd_ray, this program needs"),
        (["create table workers (id int)"], True, "is neither empty nor Amp's nor ours"),
        (["drop schema ampd_ray cascade"], False, "is neither empty nor Amp's nor ours"),
        (["insert into ampd_ray.schema_version values (99, now())"], False, "migrated by a newer ampd-ray"),
        (["alter table file_metadata drop column url cascade"], False, "differ from what this program relies on"),
    ],
    ids=["not migrated", "somebody else's", "ours lost", "newer", "altered"],
)
def test_a_database_of_another_version_is_left_alone(
    place: Place, database: Callable[..., str], statements: list[str], empty: bool, told: str
) -> None:
    url = database(*statements, empty=empty)
    place.config.write_text(f'[metadata_db]\nurl = "{url}"\nauto_migrate = false\n')
    before = tables(url)
    said = place.worker()
    assert (said.code, told in said.error) == (1, True)
    assert tables(url) == before


def test_a_pooler_that_takes_our_time_zone_away_is_refused(place: Place, database: Callable[..., str]) -> None:
    url = database("alter database {name} set timezone = 'America/New_York'")
    with aside(lambda: pooled(url)) as through:
        place.configure(through)
        for said in (place.worker(), ampd("jobs", "list", "--config", place.config)):
            assert said.code == 1
            assert "sessions in time zone America/New_York, not UTC" in said.error
            assert "set timezone to UTC there" in said.error
    with psycopg.connect(url) as conn:
        assert conn.execute("select count(*) from workers").fetchone() == (0,)


def test_a_pooler_before_a_database_in_utc_is_no_reason_to_refuse(place: Place, database: Callable[..., str]) -> None:
    url = database("alter database {name} set timezone = 'UTC'")
    with aside(lambda: pooled(url)) as through:
        place.configure(through)
        assert ampd("jobs", "list", "--config", place.config).code == 0


def test_what_there_is_not_and_what_cannot_be_done(place: Place, database: Callable[..., str]) -> None:
    place.configure(database())
    assert ampd("datasets", "register", "_/chain", "--network", "chain", "--config", place.config).code == 0
    (place.folder / "half.json").write_text('{"kind": "evm-rpc", ')
    wrong = {
        ("providers", "show", "p"): "there is no provider p; see `ampd providers list`",
        ("providers", "rm", "p"): "there is no provider p in ",
        ("jobs", "watch", "7"): "there is no job 7",
        ("jobs", "show", "7"): "there is no job 7; see `ampd jobs list`",
        ("jobs", "stop", "7"): "there is no job 7",
        ("datasets", "show", "_/nothing"): "dataset _/nothing does not exist",
        ("datasets", "register", "_/half", "--manifest", str(place.folder / "half.json")): "the manifest is not JSON",
        ("deploy", "_/chain"): "no worker is alive",
        ("deploy", "_/chain", "--worker", "w9"): "worker 'w9' is not alive",
    }
    usage = {
        ("datasets", "register", "_/Half!", "--network", "a"): "'Half!' is not a dataset name",
        ("datasets", "register", "_/half", "--network", ""): "a network's name must not be empty",
        ("datasets", "register", "_/half", "--network", "Sepolia"): "did you mean sepolia?",
        ("deploy", "_/chain", "--end-block", "soon"): "give a block's number (it is the last one), latest, or -N",
        ("providers", "add", "p", "--network", "a", "--url", f"nothing/{CANARY}"): "url must begin with one of",
        ("providers", "add", "p", "--network", "basse", "--url", "http://h"): "did you mean base?",
    }
    for code, commands in ((1, wrong), (2, usage)):
        for command, told in commands.items():
            said = ampd(*command, "--config", place.config)
            assert (said.code, told in said.error) == (code, True), said.err
    assert ampd("jobs", "show", str(1 << 63), "--config", place.config).code == 2


def test_a_node_id_that_somebody_holds_ends_with_3(place: Place, database: Callable[..., str]) -> None:
    url = database()
    place.configure(url)
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(hashtextextended('w1', 0))")
        said = place.worker()
    assert said.code == 3
    assert "node id 'w1' is in use" in said.error
    assert "give this one another --node-id" in said.error
    with psycopg.connect(url) as conn:
        assert conn.execute("select count(*) from workers").fetchone() == (0,)


def test_a_worker_that_cannot_start_has_made_no_directory(place: Place, database: Callable[..., str]) -> None:
    url = database()
    place.configure(url)
    before = {path for path in place.folder.rglob("*") if path.is_dir()}
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(hashtextextended('w1', 0))")
        assert place.worker().code == 3
    made = {path for path in place.folder.rglob("*") if path.is_dir()} - before
    assert made <= {place.folder / "data" / STAGING}  # the probe of a data directory that is there


def test_no_ray_where_one_is_to_be_joined(place: Place, database: Callable[..., str]) -> None:
    place.configure(database())
    for address in (f"127.0.0.1:{free_port()}", "ray://127.0.0.1:10001", "here"):
        said = place.worker("--address", address)
        assert said.code == 1
        assert address in said.error


def tables(url: str) -> Any:
    with psycopg.connect(url) as conn:
        return conn.execute(
            "select table_schema, table_name, column_name from information_schema.columns "
            "where table_schema in ('public', 'ampd_ray') order by 1, 2, 3"
        ).fetchall()


# -- block ranges and providers, before a backfill starts anything ---------------------------------------------------


@pytest.fixture(scope="module")
def chain() -> DevChain:
    made = DevChain(1, 2)
    made.mine(HEAD)
    return made


@pytest.fixture
def node(chain: DevChain) -> Iterator[FaultyRpc]:
    with aside(lambda: FaultyRpc(chain)) as running:
        yield running


def backfill(rpc: str, tmp_path: Path, *more: str, blocks: str = "0:9", **env: str) -> Said:
    """A backfill that must not even begin to make a solo environment."""
    said = ampd("backfill", "--rpc", rpc, "--blocks", blocks, "--amp-dir", tmp_path / "amp", *more, env=env)
    assert not (tmp_path / "amp").exists()
    return said


@pytest.mark.parametrize(
    ("blocks", "code", "told"),
    [
        ("9:3", 2, "the end 3 lies before the start 9. Write 3:9"),
        ("5:5", 2, "it holds no block, since the end is excluded. Write 5:6"),
        ("ten:20", 2, "Write for example 15M:16M"),
        ("", 2, "Write for example 15M:16M"),
        ("-5:-1", 2, "Write"),
        ("1.5:9", 2, "1.5"),
        ("0:1000", 1, f"block 999 is beyond the head, {HEAD}"),
        ("1000:latest", 1, f"the chain ends at block {HEAD}"),
        ("99999999999999999999:+5", 2, ""),
    ],
)
def test_a_range_that_is_none(node: FaultyRpc, tmp_path: Path, blocks: str, code: int, told: str) -> None:
    """What is no range is wrong usage; what the chain does not have yet is not."""
    said = backfill(node.url, tmp_path, blocks=blocks)
    assert said.code == code
    assert f"range {blocks!r}" in said.error
    assert told in said.error


def test_a_table_that_there_is_not(node: FaultyRpc, tmp_path: Path) -> None:
    said = backfill(node.url, tmp_path, "--tables", "blocks,traces")
    assert (said.code, "no table 'traces'; the tables are blocks, transactions, logs" in said.error) == (2, True)


def test_a_network_without_a_name(node: FaultyRpc, tmp_path: Path) -> None:
    said = backfill(node.url, tmp_path, "--network", " ")
    assert (said.code, "a network's name must not be empty" in said.error) == (2, True)


def test_a_network_that_is_probably_misspelt(node: FaultyRpc, tmp_path: Path) -> None:
    said = backfill(node.url, tmp_path, "--network", "mainet")
    assert (said.code, "did you mean mainnet? If not, insist with --new-network" in said.error) == (2, True)
    assert not node.requests
    insisted = backfill(node.url, tmp_path, "--network", "mainet", "--new-network", blocks="0:1000")
    assert (insisted.code, "beyond the head" in insisted.error) == (1, True)


def secret_url(url: str) -> str:
    """The address with a secret in each place where one may stand."""
    return url.replace("://", f"://{CANARY}:{CANARY}@", 1) + f"/v2/{CANARY}?key={CANARY}"


FAULTS = [
    (Fault.UNAUTHORIZED, "HTTP 401: the credentials do not work"),
    (Fault.FORBIDDEN, "HTTP 403: access denied"),
    (Fault.TOO_MANY, "HTTP 429: too many requests"),
    (Fault.SERVER_ERROR, "HTTP 500"),
    (Fault.HTML, "answered HTML instead of JSON"),
    (Fault.TRUNCATED, "answered truncated or malformed JSON"),
    (Fault.EMPTY, "answered nothing"),
    (Fault.RESET, "dropped the connection"),
    (Fault.NO_METHOD, "answered error -32601"),
    (Fault.HANG, "did not answer in time"),
]


@pytest.mark.parametrize(("fault", "told"), FAULTS, ids=[fault.name for fault, _ in FAULTS])
def test_a_provider_that_fails_the_probe(node: FaultyRpc, tmp_path: Path, fault: Fault, told: str) -> None:
    node.inject(fault, times=FOREVER, retry_after=20)
    said = backfill(secret_url(node.url), tmp_path)
    assert said.code == 1
    assert node.fired[fault] >= 1
    assert f"at {node.url.removeprefix('http://')} " in said.error
    assert told in said.error


def test_a_provider_without_a_head(node: FaultyRpc, tmp_path: Path) -> None:
    node.inject(Fault.NULL, times=FOREVER, method="eth_getBlockByNumber")
    said = backfill(secret_url(node.url), tmp_path)
    assert (said.code, node.fired[Fault.NULL] >= 1) == (1, True)
    assert "null" in said.error


def test_a_provider_of_another_chain(node: FaultyRpc, tmp_path: Path) -> None:
    said = backfill(secret_url(node.url), tmp_path, "--network", "mainnet")
    assert said.code == 1
    assert "serves chain 1337 (devnet), but mainnet is chain 1" in said.error


def test_a_provider_that_is_down(tmp_path: Path) -> None:
    port = free_port()
    said = backfill(secret_url(f"http://127.0.0.1:{port}"), tmp_path)
    assert (said.code, f"at 127.0.0.1:{port} refused the connection" in said.error) == (1, True)


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_provider_behind_a_firewall_that_drops(tmp_path: Path, scheme: str) -> None:
    with dropping_host() as host:
        said = backfill(secret_url(f"{scheme}://{host}"), tmp_path)
    assert (said.code, f"at {host} did not answer in time" in said.error) == (1, True)


def test_what_is_no_http(tmp_path: Path) -> None:
    with aside(lambda: talking_host(b"SSH-2.0-OpenSSH_9.2\r\n")) as host:
        said = backfill(secret_url(f"http://{host}"), tmp_path)
    assert (said.code, f"at {host} answered something that is not HTTP" in said.error) == (1, True)


def test_https_where_there_is_none(node: FaultyRpc, tmp_path: Path) -> None:
    said = backfill(secret_url(node.url.replace("http:", "https:")), tmp_path)
    assert (said.code, "the TLS handshake failed" in said.error) == (1, True)


@pytest.mark.parametrize(
    ("address", "code", "told"),
    [
        (f"ftp://{CANARY}@127.0.0.1/", 2, "url must begin with one of http://, https://"),
        ("127.0.0.1:8545", 2, "url must begin with one of http://, https://"),
        (f"http://{CANARY}@127.0.0.1:99999/", 2, "url has a malformed host or port"),
        (f"http:///{CANARY}", 2, "url has no host"),
        ("ipc:///no/such/geth.ipc", 1, "geth.ipc"),
        ("http://no-such-host.invalid:8545", 1, "no-such-host.invalid:8545 cannot be found"),
        ("${NO_SUCH_VARIABLE}", 2, "the environment variable NO_SUCH_VARIABLE is not set"),
        ("", 2, "url must begin with one of http://, https://"),
    ],
)
def test_an_address_that_cannot_be_asked(tmp_path: Path, address: str, code: int, told: str) -> None:
    said = backfill(address, tmp_path)
    assert (said.code, told in said.error) == (code, True), said.err


# -- bugs -----------------------------------------------------------------------------------------------------------

BUG = f"""
import sys
import ampd_ray.client.request
from ampd_ray.cli.app import app

def probe(request):
    raise KeyError("https://u:{CANARY}@node.example/{CANARY}")

ampd_ray.client.request.probe = probe
app(["backfill", "--rpc", "http://127.0.0.1:1", "--blocks", "0:9"])
"""


def test_a_bug_is_one_line_that_names_its_kind(tmp_path: Path) -> None:
    said = run([sys.executable, "-c", BUG], cwd=tmp_path)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "error: unexpected KeyError: this is a bug in ampd-ray" in said.error
    assert "AMP_LOG=debug" in said.error


def test_a_bug_shows_where_it_happened_in_a_debug_log(tmp_path: Path) -> None:
    said = run([sys.executable, "-c", BUG], cwd=tmp_path, env={"AMP_LOG": "debug"})
    assert said.code == 1
    assert "Traceback" in said.err
    assert "in probe" in said.err
    assert CANARY not in said.err
