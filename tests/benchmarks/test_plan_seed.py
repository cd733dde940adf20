"""A short seed of ``make bench-plan``: a plan, then its run; what can be counted comes out as planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.providers.evm_rpc import EvmRpcSource
from tests.benchmarks import plan
from tests.benchmarks.load import chains
from tests.fakes.places import needs
from tests.fakes.providers import all_of, provider


def test_a_plan_holds_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    record = plan.measure(["grown"], scale=0.1)
    found = record["grown"]
    for figure in ("blocks", "calls", "requests", "files", "rows of blocks"):
        estimate, _, _, actual = found[figure]
        assert actual == pytest.approx(estimate, rel=0.1), figure
    for figure in ("wire_bytes", "rows of transactions", "rows of logs", "parquet_bytes"):
        estimate, _, _, actual = found[figure]
        assert actual == pytest.approx(estimate, rel=0.5), figure
    assert found["seconds"][0] > 0
    assert "actual/est." in capsys.readouterr().out


async def test_a_growing_chain_is_one_that_strict_checks_pass() -> None:
    with plan.chain_server("grown", 60) as url:
        source = EvmRpcSource(provider(url))
        try:
            await source.start()
            blocks = await all_of(source, Span(0, 60))
        finally:
            await source.close()
    sizes = [len(each.transactions) for each in blocks]
    assert sum(sizes[:20]) < sum(sizes[20:40]) < sum(sizes[40:])


def test_the_first_blocks_of_mainnet_are_served_as_they_are(chain_data: Path) -> None:
    chain = chains.era1(needs(chain_data / chains.ERA1).parent)
    assert chain.length == 8192
    served = chain.at(8191)
    assert served is not None
    assert chain.at(8192) is None
