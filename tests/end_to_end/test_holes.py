"""A thousand blocks, three of which a provider has wrong: what a user does, and sees, on a real worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.client.loop import LoopThread
from tests.fakes.ampd import ampd
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.faulty_rpc import FaultyRpc
from tests.fakes.site import Site, ends_as, make_site, register
from tests.fakes.worker import Worker
from tests.servers import Server, fresh_database

LAST = 999
BAD = (3, 500, 990)
pytestmark = pytest.mark.timeout(400)


def forge(block: Any) -> Any:
    """Another root of its transactions than they have."""
    bad = isinstance(block, dict) and int(block["number"], 16) in BAD
    return {**block, "transactionsRoot": "0x" + "11" * 32} if bad else block


@pytest.fixture
def honest() -> Iterator[Devnet]:
    with run_devnet(LAST + 1) as running:
        yield running


@pytest.fixture
def liar(honest: Devnet) -> Iterator[FaultyRpc]:
    loop = LoopThread()
    node = FaultyRpc(honest.chain)
    loop.run(node.__aenter__())
    node.alter("eth_getBlockByNumber", forge)
    yield node
    loop.run(node.__aexit__(None, None, None))
    loop.close()


@pytest.fixture
def site(tmp_path: Path, embedded: Server, liar: FaultyRpc) -> Iterator[Site]:
    with fresh_database(embedded) as url:
        yield make_site(tmp_path / "site", url, liar.url)


def said(site: Site, *words: str, code: int = 0) -> Any:
    done = ampd("--config", site.config, *words, "--json")
    assert done.code == code, done.out + done.err
    return json.loads(done.out)


def test_a_liar_leaves_holes_that_are_listed_and_an_honest_provider_fills_them(
    site: Site, honest: Devnet, liar: FaultyRpc
) -> None:
    worker = Worker(site, "w1")
    try:
        worker.up()
        with site.client() as client:
            descriptor = register(client, "chain").model_copy(update={"end_block": str(LAST), "verify": True})
            job = client.deploy(descriptor)
            assert ends_as(client, job.id) == "COMPLETED", job.failure()
            assert liar.fired["eth_getBlockByNumber"] > 0
            assert [hole.block for hole in job.holes()] == list(BAD)
            (listed,) = said(site, "jobs", "list")
            assert (listed["status"], listed["holes"]) == ("COMPLETED", len(BAD))
            for hole, block in zip(said(site, "jobs", "holes", str(job.id)), BAD, strict=True):
                assert hole["block"] == block
                assert f"block {block}: " in hole["reason"]
                assert hole["evidence"][0]["provider"] == "devnet"
            checked = said(site, "check", "_/chain", code=1)
            assert checked["quarantined"] == list(BAD)
            assert checked["verified"] == {"roots": LAST + 1 - len(BAD)}
            assert {finding["kind"] for finding in checked["findings"]} == {"hole"}
            # ... until somebody knows better, though the first provider says the same as ever
            client.add_provider("other", kind="evm-rpc", network="devnet", url=honest.url)
            fired = liar.fired["eth_getBlockByNumber"]
            again = said(site, "jobs", "retry", str(job.id), "--quarantined")
            assert (again["holes"], again["asked_again"]) == (0, len(BAD))
            assert ends_as(client, job.id) == "COMPLETED", job.failure()
            assert liar.fired["eth_getBlockByNumber"] > fired
            assert job.holes() == []
            assert said(site, "check", "_/chain")["findings"] == []
            assert client.scan("_/chain", "blocks").count_rows() == LAST + 1
    finally:
        worker.end()
