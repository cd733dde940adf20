"""Units, tasks and files before there is a job: as the planner would cut them."""

from __future__ import annotations

from typing import Any

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.client.planning import layout
from ampd_ray.client.planning.layout import Density, Layout, Rules, lay_out
from ampd_ray.materialize.plan import UNIT_BYTES

ALL = ("blocks", "transactions", "logs")
RULES: dict[str, Any] = {"writers": 1, "segment_bytes": 2 << 30, "flush_secs": 600.0, "blocks_a_sec": 1e9}
MIB = 1 << 20


def steady(nbytes: float) -> Density:
    return Density([0], {table: [nbytes / 3] for table in ALL})


def laid(span: Span, arrow: float = 4000.0, file: float = 1000.0, **rules: Any) -> Layout:
    return lay_out({table: [span] for table in ALL}, steady(arrow), steady(file), Rules(**(RULES | rules)))


def test_a_small_range_is_felt_out_then_finished() -> None:
    found = laid(Span(0, 2999))  # 1,500 blocks while nothing is known, then the rest
    assert (found.units, found.passes) == (2, 2)
    assert found.tasks == 8 + 1  # 4 of 16, 64, 256, 1,024 and the rest of 1,500
    assert found.files == dict.fromkeys(ALL, 2)
    assert found.parts == 3000


def test_units_of_a_long_range_are_of_256_mib() -> None:
    found = laid(Span(0, 999_999), arrow=400_000, file=100_000)
    assert found.units == pytest.approx(1_000_000 * 100_000 / UNIT_BYTES, rel=0.02)
    assert found.task_blocks == 16 * MIB // 400_000
    assert found.tasks == pytest.approx(1_000_000 / found.task_blocks, rel=0.02)


def test_several_writers_share_a_range() -> None:
    assert laid(Span(0, 99_999), writers=4).units >= 4 + 4


def test_files_end_by_size_where_a_task_ends() -> None:
    found = laid(Span(0, 9_999), arrow=40_000, file=10_000, segment_bytes=1 << 20)
    assert found.files["logs"] == found.tasks - 4  # of the first and smallest, 16 and 64 blocks, two or three are one


def test_files_end_by_age_where_the_provider_is_slow() -> None:
    assert laid(Span(0, 99_999), file=10.0).files["logs"] == 2
    assert laid(Span(0, 99_999), file=10.0, blocks_a_sec=10.0).files["logs"] == pytest.approx(98_000 / 6000, abs=2)


def test_no_file_reaches_beyond_what_is_final() -> None:
    assert laid(Span(0, 2999), finalized=2900).files["blocks"] == 3
    assert laid(Span(0, 2999), finalized=2999).files["blocks"] == 2


def test_batches_are_cut_within_tasks() -> None:
    assert laid(Span(0, 15), batch_size=10).parts == 2
    assert laid(Span(0, 2999), batch_size=100).parts == pytest.approx(30, abs=8)


def test_only_the_tables_that_lack_blocks_get_files() -> None:
    missing = {"blocks": [], "transactions": [Span(0, 99)], "logs": [Span(0, 99), Span(200, 299)]}
    found = lay_out(missing, steady(3000), steady(1000), Rules(**RULES))
    assert found.files == {"blocks": 0, "transactions": 1, "logs": 2}


def test_nothing_missing_is_nothing() -> None:
    assert lay_out({"blocks": []}, steady(1), steady(1), Rules(**RULES)).tasks == 0


def test_after_so_many_passes_the_rest_is_like_them(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = laid(Span(0, 999_999), arrow=400_000, file=100_000)
    monkeypatch.setattr(layout, "MOST_PASSES", 10)
    part = laid(Span(0, 999_999), arrow=400_000, file=100_000)
    assert part.units == pytest.approx(whole.units, rel=0.05)
    assert part.files["logs"] == pytest.approx(whole.files["logs"], rel=0.05)


def test_density_steps_along_the_chain() -> None:
    density = Density([10, 20, 40], {"logs": [1.0, 5.0, 0.0]})
    assert density.bytes_of(Span(10, 19), ["logs"]) == 10
    assert density.bytes_of(Span(15, 24), ["logs"]) == 5 + 25
    assert density.bytes_of(Span(30, 99), ["logs"]) == 50
