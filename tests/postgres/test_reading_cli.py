"""``ampd coverage``, ``sql`` and ``head`` in this process, on two datasets with real files."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ampd_ray.cli.app import app
from ampd_ray.client import Client
from ampd_ray.config import load_settings
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb import jobs, workers
from ampd_ray.metadb.jobs import JobStatus
from tests.fakes.tables import Table
from tests.servers import READER, Server, as_user

DEVNET, OTHER = evm_rpc_manifest("devnet"), evm_rpc_manifest("devnet", 5)
Ampd = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def place(embedded: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A configuration, and its database with ``_/devnet``: blocks 0 to 19 and 30 to 39 of two tables."""
    url = embedded.migrate(embedded.create_database("template0"))
    folder = tmp_path_factory.mktemp("reading")
    for name in ("data", "providers", "manifests"):
        (folder / name).mkdir()
    config = folder / "amp.toml"
    config.write_text(f'[metadata_db]\nurl = "{url}"\n')
    with Client(load_settings(config, {})) as client:
        client.register_dataset(DatasetRef("_", "devnet"), DEVNET)
        for table in ("blocks", "logs"):
            made = Table(client, url, DEVNET.hash, table)
            made.add("a.parquet", 0, 19, verified="full")
            made.add("b.parquet", 30, 39)
    return config, url


@pytest.fixture(scope="module")
def two(place: tuple[Path, str]) -> None:
    """A second dataset, from now on."""
    config, url = place
    with Client(load_settings(config, {})) as client:
        client.register_dataset(DatasetRef("_", "other"), OTHER)
        Table(client, url, OTHER.hash, "logs", dataset="other").add("a.parquet", 5, 7)


@pytest.fixture
def ampd(place: tuple[Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ampd:
    """Run a command in this process on 80 columns, as the role that only reads: exit code, stdout, stderr."""
    config, url = place
    reader = config.with_name("reader.toml")
    reader.write_text(f'[metadata_db]\nurl = "{as_user(READER, url)}"\n')
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("AMP_CONFIG", str(reader))

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app([*words])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


# -- coverage ---------------------------------------------------------------------------------------------------------


def test_coverage_is_a_picture_the_gaps_and_the_next_command(ampd: Ampd) -> None:
    code, out, err = ampd("coverage", "_/devnet")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "_/devnet on devnet"
    assert lines[1].startswith("blocks  ████")
    assert lines[1].endswith("  75 %")
    assert lines[3].split() == ["0", "39"]
    assert lines[4] == "█ covered, verified   ▓ covered, not verified   · missing"
    assert lines[5:] == [
        "missing: 20 to 29 (10 blocks)",
        "to fill it: ampd backfill --rpc URL --blocks 0:30",
    ]


def test_coverage_of_a_range_and_as_json(ampd: Ampd) -> None:
    code, out, _ = ampd("coverage", "devnet", "--blocks", "15:22", "--json")
    found = json.loads(out)
    assert (code, found["start"], found["end"], list(found["tables"])) == (0, 15, 21, ["blocks", "logs"])
    logs = {"covered": [[15, 19]], "unverified": [], "quarantined": [], "missing": [[20, 21]]}
    assert found["tables"]["logs"] == logs


def test_coverage_beyond_the_last_block_does_not_deny_the_others(ampd: Ampd) -> None:
    assert ampd("coverage", "devnet", "--blocks", "40:")[1].splitlines()[0] == (
        "_/devnet on devnet: no block from 40 on is there or asked for yet"
    )


def test_coverage_names_the_job_that_can_help(ampd: Ampd, place: tuple[Path, str]) -> None:
    config, url = place
    with Client(load_settings(config, {})) as client:

        async def register() -> None:
            async with client.db.connection() as conn:
                await workers.register(conn, "one", {})

        client.run(register())
        job = client.deploy(JobDescriptor.of(DatasetRef("_", "devnet"), DEVNET.hash, end_block="39"))
        with psycopg.connect(url) as session:
            session.execute(
                "insert into ampd_ray.quarantine (location_group, block, reason, provider) values (%s, 25, 'x', 'p')",
                [f"_/devnet@{DEVNET.hash}"],
            )
        try:
            _, out, _ = ampd("coverage", "devnet")
            assert out.splitlines()[-5:] == [
                "missing: 20 to 24, 26 to 29 (9 blocks)",
                "quarantined: 25 (1 block)",
                f"why they are quarantined: ampd jobs holes {job.id}",
                f"to ask for them again: ampd jobs retry {job.id} --quarantined",
                f"job {job.id} is SCHEDULED: ampd jobs watch {job.id}",
            ]
        finally:

            async def end() -> None:
                async with client.db.connection() as conn:
                    for status in (JobStatus.RUNNING, JobStatus.COMPLETED):
                        assert await jobs.transition(conn, job.id, status, "one")

            client.run(end())
            job.remove()
            with psycopg.connect(url) as session:
                session.execute("delete from ampd_ray.quarantine")


def test_coverage_that_lacks_nothing_can_be_verified(ampd: Ampd, place: tuple[Path, str]) -> None:
    _, out, _ = ampd("coverage", "devnet", "--blocks", "30:40", "--config", str(place[0]))
    assert out.splitlines()[-1] == f"to verify what is there: ampd verify _/devnet --config {place[0]}"


# -- sql --------------------------------------------------------------------------------------------------------------


def test_sql_gives_a_table_json_or_csv(ampd: Ampd) -> None:
    query = "select block_num, address, topic0 from logs order by block_num"
    code, out, err = ampd("sql", query, "--limit", "2")
    address, topic = "0x" + "0" * 39 + "1", "0x" + "0" * 63 + "1"
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "block_num  address        topic0",
        "        0  0x000000…0000  -",
        "        1  0x000000…0001  0x000000…0001",
    ]
    _, out, _ = ampd("sql", query, "--json")
    rows = json.loads(out)
    assert len(rows) == 30
    assert rows[1] == {"block_num": 1, "address": address, "topic0": topic}
    _, out, _ = ampd("sql", query, "--csv")
    assert list(csv.reader(io.StringIO(out)))[:3] == [
        ["block_num", "address", "topic0"], ["0", "0x" + "0" * 40, ""], ["1", address, topic],
    ]  # fmt: skip


def test_sql_reads_only_the_range_and_says_when_there_is_more(ampd: Ampd) -> None:
    assert ampd("sql", "select min(block_num), max(block_num) from logs", "--blocks", "18:33", "--json")[1] == (
        '[{"min(block_num)": 18, "max(block_num)": 32}]\n'
    )
    _, out, err = ampd("sql", "select unnest(range(60)) as n")
    assert (len(out.splitlines()), err) == (51, "the first 50 rows; more: --limit N or --all\n")
    _, out, err = ampd("sql", "select unnest(range(60)) as n", "--all")
    assert (len(out.splitlines()), err) == (61, "")
    assert ampd("sql", "select 1 as one where false") == (0, "one\n", "no rows\n")
    assert ampd("sql", "select 1 where false", "--json") == (0, "[]\n", "")
    assert ampd("sql", "select count(*) as n from transactions", "--csv") == (0, "n\n0\n", "")


def test_sql_takes_a_pivot_that_names_its_columns(ampd: Ampd, tmp_path: Path) -> None:
    odd, to = "(select block_num % 2 as odd from devnet.logs)", tmp_path / "x.csv"
    pivot = f"pivot {odd} on odd in (0, 1) using count(*)"
    assert ampd("sql", pivot, "--csv") == (0, "0,1\n15,15\n", "")
    for query in (f"pivot {odd} on odd using count(*)", f"copy (pivot {odd} on odd using count(*)) to '{to}'"):
        code, _, err = ampd("sql", query)
        assert (code, "if it names its columns" in err) == (2, True)
    assert not to.exists()


def test_sql_says_which_blocks_of_the_range_are_not_there(ampd: Ampd) -> None:
    count = "select count(*) as n from devnet.logs"
    assert ampd("sql", count, "--blocks", "5:10", "--csv") == (0, "n\n5\n", "")
    assert ampd("sql", count, "--blocks", "10:100", "--csv") == (
        0, "n\n20\n",
        "warning: blocks and logs lack 20 to 29, 40 to 99 of the blocks 10 to 99: ampd coverage _/devnet\n",
    )  # fmt: skip
    assert ampd("sql", count, "--blocks", "5000:6000") == (
        1, "", "error: _/devnet has none of the blocks 5000:6000; it has 0 to 19, 30 to 39\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select nope from logs", "Referenced column \"nope\" not found"),
        ("select * from traces", "Table with name traces does not exist"),
        ("selec 1", "syntax error at or near \"selec\""),
        ("select 1; select 2", "expected one select, found 2 statements"),
        ("/* nothing */", "expected one select, found no statements"),
        ("create table x as select 1", "only a select is run here, and this is a create: nothing is changed"),
        ("copy logs to 'logs.csv'", "only a select is run here"),
        ("explain analyze copy logs to 'logs.csv'", "only a select is run here"),
        ("attach 'x.db'", "only a select is run here"),
        ("select cast('x' as int) from logs", "Could not convert string 'x' to INT32"),
        ("select * from read_text('/etc/hostname')", "Cannot access file \"/etc/hostname\""),
        ("select * from glob('/*')", "Cannot access file \"/*\""),
        ("select * from 'https://127.0.0.1:9/x.parquet'", "Cannot access file \"https://127.0.0.1:9/x.parquet\""),
        ("select * from enable_logging(storage := 'file', storage_path := 'log')", "Cannot change configuration"),
    ],
)  # fmt: skip
def test_wrong_sql_is_one_clear_line(
    ampd: Ampd, query: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = ampd("sql", query)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_later_row_is_one_line_too(ampd: Ampd) -> None:
    late = "select (case when range > 500000 then 'x' else '1' end)::int as n from range(1000000)"
    code, out, err = ampd("sql", late, "--csv")
    assert (code, out[:2]) == (2, "n\n")
    assert err == "error: Conversion Error: Could not convert string 'x' to INT32\n"


def test_ctrl_c_ends_a_query(ampd: Ampd) -> None:
    pressed = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    pressed.start()
    assert ampd("sql", "select count(*) from range(100_000_000_000)") == (130, "", "interrupted\n")
    pressed.join()


def test_days_begin_in_utc_wherever_it_runs(ampd: Ampd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        day = "select date_trunc('day', timestamptz '2024-01-01 03:00:00Z') as day"
        assert ampd("sql", day, "--csv")[1] == "day\n2024-01-01T00:00:00Z\n"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_names_in_capitals_mean_the_same(ampd: Ampd) -> None:
    assert ampd("sql", "select count(*) as n from DEVNET.Logs", "--csv")[1] == "n\n30\n"


def test_numbers_may_be_large(ampd: Ampd) -> None:
    large = str(10**30)
    assert ampd("sql", "select 1 as one", "--limit", large, "--csv")[:2] == (0, "one\n1\n")
    assert len(json.loads(ampd("head", "devnet.logs", "--rows", large, "--json")[1])) == 30
    assert ampd("head", "devnet.blocks", "--tail", "--rows", large)[0] == 0
    highest = 2**63 - 1
    for blocks in (f"{highest}", f"1:+{highest}"):
        code, _, err = ampd("coverage", "devnet", "--blocks", blocks)
        assert (code, "above the highest possible block number" in err) == (2, True)
    assert ampd("coverage", "devnet", "--blocks", f"0:{highest}")[0] == 0


def test_a_dumb_terminal_gets_no_colours(ampd: Ampd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in ampd("coverage", "devnet")[1]
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in ampd("coverage", "devnet")[1]


def test_a_file_that_is_gone_is_named(ampd: Ampd, place: tuple[Path, str]) -> None:
    config, _ = place
    with Client(load_settings(config, {})) as client:
        path, _ = map(Path, client.files("devnet", "blocks"))
    aside = path.rename(path.with_suffix(".aside"))
    try:
        for words in (["sql", "select count(*) from blocks"], ["head", "devnet.blocks"]):
            code, out, err = ampd(*words)
            assert (code, out) == (1, "")
            assert str(path) in err
            assert "ampd check" in err
    finally:
        aside.rename(path)


def test_a_query_sees_no_variable_of_ours(ampd: Ampd) -> None:
    assert "Table with name known does not exist" in ampd("sql", "select * from known")[2]


def test_options_that_exclude_each_other(ampd: Ampd) -> None:
    assert ampd("sql", "select 1", "--csv", "--json")[0] == 2
    assert ampd("sql", "select 1", "--all", "--limit", "3")[0] == 2


@pytest.mark.usefixtures("two")
def test_of_several_datasets_one_must_be_meant(ampd: Ampd) -> None:
    code, _, err = ampd("sql", "select count(*) from logs")
    assert (code, err) == (
        2, "error: which dataset? There are _/devnet, _/other: give --dataset, or write the tables as devnet.logs\n",
    )  # fmt: skip
    count = "select count(*) as n from "
    assert ampd("sql", count + "logs", "--dataset", "other", "--csv")[1] == "n\n3\n"
    assert ampd("sql", count + "devnet.logs", "--csv")[1] == "n\n30\n"
    assert ampd("sql", count + 'logs join "devnet".logs d using (block_num)', "--dataset", "other", "--csv")[1] == (
        "n\n3\n"
    )
    assert "traces does not exist" in ampd("sql", count + "devnet.traces")[2]


# -- head -------------------------------------------------------------------------------------------------------------


def test_head_shows_all_columns_of_the_first_or_the_last_rows(ampd: Ampd) -> None:
    code, out, _ = ampd("head", "_/devnet.logs", "--rows", "2")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == SCHEMAS["logs"].names
    assert out.splitlines()[2].split() == ["block_num", "0", "1"]
    _, out, _ = ampd("head", "devnet.blocks", "--tail", "-n", "2", "--columns", "hash, block_num", "--json")
    assert [(list(row), row["block_num"]) for row in json.loads(out)] == [(["hash", "block_num"], n) for n in (38, 39)]


def test_head_of_what_is_not_there(ampd: Ampd) -> None:
    assert ampd("head", "devnet.transactions")[:2] == (0, "_/devnet has no rows of transactions yet\n")
    assert ampd("head", "devnet.transactions", "--json")[1] == "[]\n"
    assert ampd("head", "devnet") == (
        2, "", "error: 'devnet' names no table: write devnet.logs, or .blocks, or .transactions\n"
    )  # fmt: skip
    code, _, err = ampd("head", "devnet.traces")
    assert (code, "there is no table 'traces': the tables are blocks, transactions, logs\n" in err) == (2, True)
    code, _, err = ampd("head", "devnet.log")
    assert (code, "the tables are blocks, transactions, logs; did you mean logs?" in err) == (2, True)
    for words in (["head", "devnt.logs"], ["coverage", "devnt"], ["sql", "select 1 from logs", "--dataset", "devnt"]):
        code, _, err = ampd(*words)
        assert (code, err) == (
            1, "error: dataset _/devnt does not exist: no dataset of that name is registered; did you mean _/devnet? "
            "See `ampd datasets list` or client.datasets().\n",
        )  # fmt: skip
    code, _, err = ampd("head", "devnet.logs", "--columns", "x")
    assert (code, "has no column x; its columns are _block_num" in err) == (1, True)
