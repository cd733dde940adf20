"""Which blocks a job extracts, and how often."""

from __future__ import annotations

import pytest

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.datasets.manifest import TABLES, evm_rpc_manifest
from tests.fakes.bench import Bench


async def test_a_whole_range_is_committed(bench: Bench) -> None:
    run = await bench.complete(end_block="120")
    await bench.assert_exactly_once(0, 120)
    assert {table: await bench.spans(table) for table in TABLES} == {table: [(0, 120)] for table in TABLES}
    assert merge(run.extractors.spans) == [Span(0, 120)]


async def test_a_range_starts_where_its_manifest_says(bench: Bench) -> None:
    bench.manifest = evm_rpc_manifest("devnet", 57)
    await bench.complete(end_block="99")
    await bench.assert_exactly_once(57, 99)


async def test_a_completed_range_is_neither_fetched_nor_committed_again(bench: Bench) -> None:
    await bench.complete(end_block="120")
    before = await bench.query("select count(*) as files, max(id) as newest from file_metadata")
    receipts = bench.devnet.server.rpc.calls["eth_getBlockReceipts"]
    again = await bench.complete(end_block="120")
    assert again.extractors.spans == []
    assert again.writers.partitions == []
    assert bench.devnet.server.rpc.calls["eth_getBlockReceipts"] == receipts
    assert await bench.query("select count(*) as files, max(id) as newest from file_metadata") == before


async def test_a_later_end_block_extends_what_is_there(bench: Bench) -> None:
    await bench.complete(end_block="90")
    run = await bench.complete(end_block="130")
    assert merge(run.extractors.spans) == [Span(91, 130)]
    assert await bench.spans() == [(0, 90), (91, 130)]
    await bench.assert_exactly_once(0, 130)


async def test_what_one_table_lacks_is_fetched_once_and_written_to_that_table_only(bench: Bench) -> None:
    bench.settings["unit_blocks"] = 50
    await bench.complete(end_block="119")
    assert await bench.spans("logs") == [(0, 39), (40, 79), (80, 119)]
    logs = (await bench.revisions())["logs"].location_id
    gone = "delete from file_metadata where location_id = %s and (metadata #>> '{ranges,0,numbers,start}')::int = 40"
    assert await bench.execute(gone, logs) == 1
    before = {table: await bench.segments(table) for table in TABLES}
    run = await bench.complete(end_block="119")
    assert merge(run.extractors.spans) == [Span(40, 79)]
    assert sum(len(span) for span in run.extractors.spans) == 40
    assert [[location.table for location in each.locations] for each in run.writers.partitions] == [["logs"]]
    for table in ("blocks", "transactions"):
        assert await bench.segments(table) == before[table]
    await bench.assert_exactly_once(0, 119)


@pytest.mark.parametrize("tables", [("logs",), ("transactions", "blocks")])
async def test_a_descriptor_may_ask_for_some_tables(bench: Bench, tables: tuple[str, ...]) -> None:
    await bench.complete(end_block="60", tables=tables)
    assert set(await bench.revisions()) == set(tables)
    await bench.assert_exactly_once(0, 60, tables)
    # The others are added later; what is there stays.
    run = await bench.complete(end_block="60")
    written = {location.table for each in run.writers.partitions for location in each.locations}
    assert written == set(TABLES) - set(tables)
    await bench.assert_exactly_once(0, 60)


async def test_several_writers_share_a_range_in_ascending_units(bench: Bench) -> None:
    bench.settings["unit_blocks"] = 15
    run = await bench.complete(end_block="130", max_writers=3)
    await bench.assert_exactly_once(0, 130)
    units = [each.spans[0] for each in run.writers.partitions]
    assert len(units) == 9
    assert units == sorted(units)
    assert run.writers.most_open == 3
    assert await bench.spans() == [(unit.start, unit.end) for unit in units]


async def test_the_first_pass_is_short_and_measures(bench: Bench) -> None:
    """While nobody knows how large blocks are, units are a guess; they are cut anew as soon as it is known."""
    bench.settings["unit_blocks"] = 10
    run = await bench.complete(end_block="130", max_writers=1)
    assert [each.number for each in run.writers.partitions] == [0, *range(8), *range(5)]  # numbered anew in each pass
