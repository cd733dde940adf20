"""A worker with all its directories in an object store that fails now and then, killed with an upload under way."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from ampd_ray.client import Client
from ampd_ray.metadb.statuses import JobStatus
from tests.benchmarks.backfill import load_server
from tests.chaos.check.files import TABLES, File, read_files
from tests.fakes.bucket import Outside
from tests.fakes.faulty_s3 import Asked, Fault, FaultyS3, faulty_s3
from tests.fakes.object_stores import environment, moto
from tests.fakes.site import Site, make_site, register, wait_until
from tests.fakes.worker import Worker, ampd, end_all, workers
from tests.servers import Server, fresh_database

BLOCKS = 220
WRITER = {"compression": "uncompressed", "bytes": 1 << 28}  # so that a file takes more than one request
WRITES = ("PUT", "POST", "DELETE")
FAULTS = (Fault.LOST, Fault.SLOW_DOWN, Fault.CUT, Fault.INTERNAL)

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("chain_data")]


class UploadHeld:
    """The second part of the first large file does not get through; and every other write fails at first."""

    def __init__(self) -> None:
        self._holds = True
        self._turns = cycle([each for fault in FAULTS for each in (fault, None)])

    def __call__(self, asked: Asked) -> Fault | None:
        if self._holds and "partNumber=2" in asked.path:
            self._holds = False
            return Fault.HELD
        return next(self._turns) if asked.method in WRITES and not asked.before else None


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FaultyS3, Outside]]:
    """A bucket that our processes reach through the proxy."""
    with moto() as server, faulty_s3(server.endpoint, UploadHeld()) as proxy:
        for name, value in environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        yield proxy, Outside(server)


def test_a_worker_that_is_killed_amid_an_upload_leaves_nothing_behind(
    tmp_path: Path, embedded: Server, bucket: tuple[FaultyS3, Outside]
) -> None:
    proxy, outside = bucket
    with fresh_database(embedded) as url, load_server("mainnet", BLOCKS) as rpc:
        site = make_site(tmp_path / "site", url, rpc, network="mainnet", root="s3://blocks/amp", writer=WRITER)
        killed = Worker(site, "north")
        try:
            killed.up()
            with site.client() as client:
                descriptor = register(client, "eth", "mainnet").model_copy(update={"end_block": str(BLOCKS - 1)})
                job = client.deploy(descriptor, "north")
                wait_until(lambda: proxy.fired[Fault.HELD] or job.failure(), 120, "an upload under way")
                end_all(killed.kill())
                (abandoned,) = set(outside.uploads())  # two, if the answer to the first was lost
                with workers(site, "north"):
                    assert job.outcome(120).status is JobStatus.COMPLETED
                assert reads_as_it_should(site, client)
        finally:
            killed.end()
        assert proxy.fired.keys() == {Fault.HELD, *FAULTS}
        assert outside.uploads() == []
        with psycopg.connect(url) as connection:
            files = read_files(connection, "_/eth")
        assert abandoned not in {key_of(file) for file in files}
        assert looked_at(outside, files) == []
        assert {key for key in outside.objects() if "/data/" in key} == {key_of(file) for file in files}


def key_of(file: File) -> str:
    return (file.url.rstrip("/") + "/" + file.name).removeprefix("s3://blocks/")


def looked_at(outside: Outside, files: list[File]) -> list[str]:
    """What is wrong with the files, from outside: each is what its row says, and each block is there once."""
    wrong = []
    for file in files:
        data = outside.read(key_of(file))
        if (len(data), hashlib.sha256(data).digest()) != (file.size, file.sha256):
            wrong.append(f"{file.name} is not what its row says")
        numbers = pq.read_table(io.BytesIO(data), columns=["block_num"])["block_num"].to_pylist()
        if len(numbers) != file.rows or not set(numbers) <= set(file.blocks):
            wrong.append(f"{file.name} has other rows")
    for table in TABLES:
        blocks = [number for file in files if file.table == table and file.canonical for number in file.blocks]
        if sorted(blocks) != list(range(BLOCKS)):
            wrong.append(f"{table} has not each block once")
    return wrong


def reads_as_it_should(site: Site, client: Client) -> bool:
    """What people ask for: the commands and the client read the same through the store."""

    def said(*words: str) -> Any:
        return json.loads(ampd(site, *words, "--json").stdout)

    logs = client.dataset("_/eth").to_arrow("logs", ["block_num"])
    assert said("sql", "select count(*) as n from logs") == [{"n": logs.num_rows}]
    (last,) = said("head", "_/eth.blocks", "--tail", "--rows", "1", "--columns", "block_num")
    assert last == {"block_num": BLOCKS - 1}
    assert said("check", "_/eth")["findings"] == []
    assert [each["name"] for each in said("providers", "list")] == ["mainnet"]
    return True
