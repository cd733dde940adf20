"""Rows for people: whole numbers stay whole, bytes are 0x, and nothing is wider than the terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.cli.grid import cell, grid, plain, records

HASH = "0x" + "ab" * 32
ADDRESS = "0x" + "cd" * 20


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"\x00\xff", "0x00ff"),
        (b"", "0x"),
        (Decimal(10**38 - 1), 10**38 - 1),
        (Decimal("1.5"), 1.5),
        (float("nan"), None),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        ([{"address": b"\x01", "keys": [b"\x02"]}], [{"address": "0x01", "keys": ["0x02"]}]),
        ([(b"\x01", 2)], [["0x01", 2]]),
        (True, True),
        (None, None),
        (2**64 - 1, 2**64 - 1),
    ],
    ids=str,
)
def test_values_are_told_as_json_has_them(value: Any, told: Any) -> None:
    assert plain(value) == told
    json.dumps(plain(value), allow_nan=False)


def test_numbers_are_never_cut_and_control_characters_never_shown() -> None:
    assert cell(10**40, 13) == str(10**40)
    assert cell("a\x1b[31mb\nc") == "a [31mb c"
    assert grid(["n\x1b[32m\nx"], [], 80) == ["n [32m x"]
    assert cell(HASH, 13) == "0xababab…abab"
    assert cell(None) == "-"


def test_what_fits_is_shown_in_full_and_numbers_are_right() -> None:
    assert grid(["address", "n"], [[ADDRESS, 7], [ADDRESS, 1234]], 80) == [
        "address                                        n",
        f"{ADDRESS}     7",
        f"{ADDRESS}  1234",
    ]


def test_hashes_lose_their_middles_before_addresses_do() -> None:
    names, row = ["hash", "address"], [HASH, ADDRESS]
    assert ADDRESS in grid(names, [row], 90)[1]
    assert HASH not in grid(names, [row], 90)[1]
    assert grid(names, [row], 40)[1] == "0xababab…abab  0xcdcdcd…cdcd"


def test_few_rows_with_many_columns_are_turned_and_many_lose_columns() -> None:
    names = [f"column_{n}" for n in range(20)]
    turned = grid(names, [[HASH] * 20] * 3, 50)
    assert turned[0] == "column_0   0xababab…abab  0xababab…abab"
    assert turned.count("") == 1  # the third row is below the others
    fewer = grid(names, [[HASH] * 20] * 30, 50)
    assert len(fewer) == 32
    assert fewer[-1] == "… and 17 columns that do not fit; --json and --csv have all"


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 12).flatmap(
        lambda columns: st.lists(
            st.lists(st.sampled_from([7, HASH, ADDRESS, "x" * 50, None, True]), min_size=columns, max_size=columns),
            max_size=12,
        ).map(lambda rows: (columns, rows))
    ),
    st.integers(60, 200),
)
def test_no_line_is_wider_than_the_terminal(table: tuple[int, list[list[Any]]], width: int) -> None:
    columns, rows = table
    lines = grid([f"c{n}" for n in range(columns)], rows, width)
    assert all(len(line) <= width for line in lines)


def test_columns_of_one_name_stay_apart() -> None:
    batch = pa.table([pa.array([1, 2]), pa.array([b"a", None])], names=["x", "x"])
    assert list(records(batch)) == [[1, "0x61"], [2, None]]
