"""The rules of the columns of ``blocks`` (data.md 1.3), one test a rule."""

from __future__ import annotations

from typing import Any

import pytest

from ampd_ray.datasets.evm.decode import decode
from ampd_ray.errors import DataFault, ValueOverflow
from tests.fakes.evm_answers import (
    NETWORK,
    answer,
    header,
    rows_of,
    typed,
)

HEADER_FIELDS = [
    "number",
    "timestamp",
    "hash",
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "gasLimit",
    "gasUsed",
    "extraData",
]
OTHER = "0x" + "01" * 32
MAX_DECIMAL = 10**38 - 1


def block_row(**head: Any) -> dict[str, Any]:
    (only,) = rows_of(answer(**head), "blocks")
    return only


@pytest.mark.parametrize(
    ("column", "field", "spelled", "value"),
    [
        ("block_num", "number", "0x7", 7),
        ("_block_num", "number", "0x7", 7),
        ("timestamp", "timestamp", "0x10", 16 * 10**9),
        ("hash", "hash", OTHER, b"\x01" * 32),
        ("parent_hash", "parentHash", OTHER, b"\x01" * 32),
        ("ommers_hash", "sha3Uncles", OTHER, b"\x01" * 32),
        ("miner", "miner", "0x" + "02" * 20, b"\x02" * 20),
        ("state_root", "stateRoot", OTHER, b"\x01" * 32),
        ("transactions_root", "transactionsRoot", OTHER, b"\x01" * 32),
        ("receipt_root", "receiptsRoot", OTHER, b"\x01" * 32),
        ("logs_bloom", "logsBloom", "0x" + "03" * 256, b"\x03" * 256),
        ("difficulty", "difficulty", hex(MAX_DECIMAL), MAX_DECIMAL),
        ("total_difficulty", "totalDifficulty", hex(MAX_DECIMAL), MAX_DECIMAL),
        ("gas_limit", "gasLimit", hex(2**64 - 1), 2**64 - 1),
        ("gas_used", "gasUsed", hex(2**64 - 1), 2**64 - 1),
        ("extra_data", "extraData", "0x" + "04" * 97, b"\x04" * 97),
        ("mix_hash", "mixHash", OTHER, b"\x01" * 32),
        ("nonce", "nonce", "0x0000000000000042", 0x42),
        ("base_fee_per_gas", "baseFeePerGas", hex(MAX_DECIMAL), MAX_DECIMAL),
        ("withdrawals_root", "withdrawalsRoot", OTHER, b"\x01" * 32),
        ("blob_gas_used", "blobGasUsed", "0x0", 0),
        ("excess_blob_gas", "excessBlobGas", "0x20000", 131072),
        ("parent_beacon_root", "parentBeaconBlockRoot", OTHER, b"\x01" * 32),
        ("requests_hash", "requestsHash", OTHER, b"\x01" * 32),
    ],
)
def test_a_column_of_blocks(column: str, field: str, spelled: str, value: Any) -> None:
    assert block_row(**{field: spelled})[column] == value


@pytest.mark.parametrize(
    ("column", "field", "value"),
    [
        ("total_difficulty", "totalDifficulty", None),
        ("base_fee_per_gas", "baseFeePerGas", None),
        ("withdrawals_root", "withdrawalsRoot", None),
        ("blob_gas_used", "blobGasUsed", None),
        ("excess_blob_gas", "excessBlobGas", None),
        ("parent_beacon_root", "parentBeaconBlockRoot", None),
        ("requests_hash", "requestsHash", None),
        ("mix_hash", "mixHash", bytes(32)),
        ("nonce", "nonce", 0),
    ],
)
def test_a_header_field_that_is_null_is_as_one_that_is_missing(column: str, field: str, value: Any) -> None:
    assert field not in header()
    assert block_row()[column] == value
    assert block_row(**{field: None})[column] == value


@pytest.mark.parametrize("field", HEADER_FIELDS)
@pytest.mark.parametrize("how", ["null", "missing"])
def test_a_header_field_that_must_be_there(field: str, how: str) -> None:
    bad = answer(**{field: None})
    if how == "missing":
        del bad["block"][field]
    with pytest.raises(DataFault, match=f"header {field}: missing"):
        decode([typed(bad)], NETWORK)


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("number", 2**64, "UInt64"),
        ("timestamp", (2**63 - 1) // 10**9 + 1, "Timestamp"),
        ("difficulty", 10**38, "Decimal128"),
        ("totalDifficulty", 10**38, "Decimal128"),
        ("gasLimit", 2**64, "UInt64"),
        ("gasUsed", 2**64, "UInt64"),
        ("nonce", 2**64, "UInt64"),
        ("baseFeePerGas", 2**127, "Decimal128"),
        ("blobGasUsed", 2**64, "UInt64"),
        ("excessBlobGas", 2**64, "UInt64"),
    ],
)
@pytest.mark.parametrize("spell", [hex, int])
def test_a_header_value_that_does_not_fit(field: str, value: int, kind: str, spell: Any) -> None:
    with pytest.raises(ValueOverflow, match=rf"devnet block \S+ header {field}: .* does not fit {kind}"):
        decode([typed(answer(**{field: spell(value)}))], NETWORK)
