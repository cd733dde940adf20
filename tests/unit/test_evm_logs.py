"""The rules of the columns of ``logs`` (data.md 1.5), one test a rule."""

from __future__ import annotations

from typing import Any

import pytest

from ampd_ray.errors import DataFault, ValueOverflow
from tests.fakes.evm_answers import (
    H32,
    answer,
    legacy,
    log,
    receipt,
    rows_of,
)

LOG_FIELDS = [
    "address",
    "topics",
    "data",
    "blockNumber",
    "blockHash",
    "transactionHash",
    "transactionIndex",
    "logIndex",
]


def log_row(**changes: Any) -> dict[str, Any]:
    (only,) = rows_of(answer(legacy(), receipts=[receipt(logs=[log(**changes)])]), "logs")
    return only


@pytest.mark.parametrize("count", range(5))
def test_topics_that_are_not_there_are_null(count: int) -> None:
    topics = [f"0x{n:064x}" for n in range(count)]
    found = log_row(topics=topics)
    assert [found[f"topic{n}"] for n in range(4)] == [bytes.fromhex(t[2:]) for t in topics] + [None] * (4 - count)


def test_a_log_without_data_has_empty_data() -> None:
    assert log_row(data="0x")["data"] == b""


def test_log_numbers_are_taken_as_given() -> None:
    logs = [log(logIndex=hex(n)) for n in (3, 4, 9)]
    found = rows_of(answer(legacy(), receipts=[receipt(logs=logs)]), "logs")
    assert [one["log_index"] for one in found] == [3, 4, 9]


def test_logs_stand_in_the_order_of_receipts() -> None:
    receipts = [
        receipt(logs=[log(logIndex="0x0"), log(logIndex="0x1")]),
        receipt(logs=[]),
        receipt(logs=[log(transactionIndex="0x2", logIndex="0x2")]),
    ]
    found = rows_of(answer(legacy(), legacy(), legacy(), receipts=receipts), "logs")
    assert [(one["tx_index"], one["log_index"]) for one in found] == [(0, 0), (0, 1), (2, 2)]


@pytest.mark.parametrize("field", ["transactionIndex", "logIndex"])
def test_a_log_value_that_does_not_fit(field: str) -> None:
    with pytest.raises(ValueOverflow, match=rf"devnet block 7 tx \d+ {H32} log \d+ {field}: .* does not fit UInt32"):
        log_row(**{field: hex(2**32)})


@pytest.mark.parametrize("field", LOG_FIELDS)
def test_a_log_field_that_must_be_there(field: str) -> None:
    with pytest.raises(DataFault, match=f"devnet block 7 tx .* {field}: "):
        log_row(**{field: None})
