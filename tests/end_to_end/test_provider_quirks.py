"""A provider's chain id decides what its blocks are held to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import DataFault
from ampd_ray.providers.evm_rpc import EvmRpcSource
from ampd_ray.providers.limits import Timing
from tests.fakes.providers import all_of, provider
from tests.fakes.replay import Replay, replay

SKIPPED_LOGS = Span(11_446_765, 11_446_765)


@pytest.fixture
def cronos(chain_data: Path) -> Iterator[Replay]:
    with replay("rpc-cronos") as running:
        yield running


async def test_cronos_is_known_by_its_chain_id_and_needs_no_setting(cronos: Replay) -> None:
    source = EvmRpcSource(provider(cronos.url), expected_chain_id=25)
    try:
        await source.start()
        (fetched,) = await all_of(source, SKIPPED_LOGS)
        assert len(fetched.receipts) == 6
        assert source.stats().data_faults == 0
    finally:
        await source.close()


async def test_a_chain_that_was_not_asked_for_its_id_is_held_to_everything(cronos: Replay) -> None:
    source = EvmRpcSource(provider(cronos.url), timing=Timing(fault_delays=(0.01,)))
    try:
        with pytest.raises(DataFault, match="logIndex does not count") as caught:
            await all_of(source, SKIPPED_LOGS)
        assert (caught.value.details["check"], caught.value.details["rule"]) == (6, "LOG_NUMBERS")
    finally:
        await source.close()
