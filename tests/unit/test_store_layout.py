"""Names of files: deterministic within an epoch, disjoint across epochs (spec/commit.md 4)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ampd_ray.store.layout import file_name, revision_path, staging_path

SEGMENT: dict[str, Any] = {
    "location_id": 7,
    "network": "mainnet",
    "start": 15_000_000,
    "end": 15_000_999,
    "start_parent": b"\x01" * 32,
    "end_hash": b"\x02" * 32,
    "generation": 0,
    "writer_version": 1,
    "epoch": 3,
}


def test_the_name_has_amps_shape_and_never_changes() -> None:
    assert file_name(**SEGMENT) == "015000000-55cc084f8b5aacf6.parquet"
    assert re.fullmatch(r"000000000-[0-9a-f]{16}\.parquet", file_name(**SEGMENT | {"start": 0}))
    assert file_name(**SEGMENT | {"start": 12_345_678_901}).startswith("12345678901-")


@pytest.mark.parametrize(
    "other",
    [
        {"location_id": 8},
        {"network": "mainnet2"},
        {"start": 15_000_001},
        {"end": 15_001_000},
        {"start_parent": b"\x03" * 32},
        {"end_hash": b"\x03" * 32},
        {"generation": 1},
        {"writer_version": 2},
        {"epoch": 4},
        {"location_id": 71, "network": "mainnet"},
    ],
)
def test_every_ingredient_counts(other: dict[str, Any]) -> None:
    assert file_name(**SEGMENT | other) != file_name(**SEGMENT)


def test_ingredients_do_not_run_into_each_other() -> None:
    assert file_name(**SEGMENT | {"location_id": 1, "network": "1,a"}) != file_name(
        **SEGMENT | {"location_id": 11, "network": "a"}
    )


def test_unfinished_files_lie_outside_the_revisions() -> None:
    assert revision_path("_", "eth_rpc", "logs", "0190") == "_/eth_rpc/logs/0190"
    assert staging_path(7, 3) == ".ampd-ray-staging/7/3"
    assert staging_path(7) == ".ampd-ray-staging/7"
