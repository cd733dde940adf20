"""The rules of the columns of ``transactions`` (data.md 1.4), one test a rule."""

from __future__ import annotations

from typing import Any

import pytest

from ampd_ray.errors import DataFault
from tests.fakes.evm_answers import (
    AUTHORIZATION,
    BLOB,
    H32,
    SET_CODE,
    answer,
    dynamic,
    legacy,
    receipt,
    row,
    rows_of,
    without,
)

OTHER = "0x" + "01" * 32


def test_header_columns_and_position_come_from_the_block_and_not_from_the_transaction() -> None:
    liar = legacy(blockHash=OTHER, blockNumber="0x9", transactionIndex="0x9")
    first, second = rows_of(answer(legacy(), liar, hash=H32), "transactions")
    assert (first["tx_index"], second["tx_index"]) == (0, 1)
    for found in (first, second):
        assert (found["block_num"], found["_block_num"], found["timestamp"]) == (7, 7, 16 * 10**9)
        assert found["block_hash"] == bytes.fromhex(H32[2:])


@pytest.mark.parametrize("spelled", [{"to": None}, {}])
def test_a_creation_is_a_transaction_whose_recipient_is_null_or_missing(spelled: dict[str, Any]) -> None:
    assert row(without(legacy(), "to") | spelled)["to"] is None


@pytest.mark.parametrize("extra", [BLOB, SET_CODE])
def test_blob_and_set_code_transactions_cannot_create(extra: dict[str, Any]) -> None:
    with pytest.raises(DataFault, match=r"tx 0 .* to: missing"):
        row(dynamic(to=None, **extra))


@pytest.mark.parametrize("number", [0, 1, 10**38 - 1, 10**38, 2**255, 2**256 - 1])
def test_value_is_decimal_text_of_any_of_256_bits(number: int) -> None:
    assert row(legacy(value=hex(number)))["value"] == str(number)
    assert row(legacy(value=f"0x{number:064x}"))["value"] == str(number)
    assert row(legacy(value=number))["value"] == str(number)


def test_signature_words_are_padded_on_the_left() -> None:
    found = row(legacy(r="0x1", s="0x00ff"))
    assert (found["r"], found["s"]) == (b"\x01".rjust(32, b"\0"), b"\xff".rjust(32, b"\0"))


@pytest.mark.parametrize("kind", [dynamic(), dynamic(**BLOB), dynamic(**SET_CODE)])
def test_the_gas_price_of_types_2_to_4_is_an_effective_one_and_dropped(kind: dict[str, Any]) -> None:
    found = row(kind | {"gasPrice": "0x64"})
    assert (found["gas_price"], found["max_fee_per_gas"], found["max_priority_fee_per_gas"]) == (None, 200, 1)
    assert row(without(kind, "gasPrice"))["gas_price"] is None


@pytest.mark.parametrize("kind", [legacy(), legacy(type="0x1", chainId="0x1", accessList=[])])
def test_the_highest_fee_of_types_0_and_1_is_their_gas_price(kind: dict[str, Any]) -> None:
    found = row(kind | {"maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x1"})
    assert (found["gas_price"], found["max_fee_per_gas"], found["max_priority_fee_per_gas"]) == (100, 100, None)


@pytest.mark.parametrize(
    ("transaction", "lists"),
    [
        (legacy(), (None, None, None, None)),
        (legacy(type="0x1", chainId="0x1", accessList=[]), ([], None, None, None)),
        (dynamic(), ([], None, None, None)),
        (dynamic(**BLOB), ([], [b"\xab" * 32], None, 5)),
        (dynamic(type="0x7e"), (None, None, None, None)),
    ],
)
def test_lists_are_null_where_their_type_has_none(transaction: dict[str, Any], lists: tuple[Any, ...]) -> None:
    """Fields of other types that a node sends along are of no account."""
    noise = {"blobVersionedHashes": [H32], "authorizationList": [AUTHORIZATION], "maxFeePerBlobGas": "0x5"}
    found = row(noise | {"accessList": []} | transaction)
    columns = ("access_list", "blob_versioned_hashes", "authorization_list", "max_fee_per_blob_gas")
    assert tuple(found[column] for column in columns) == lists


@pytest.mark.parametrize("kind", [{}, BLOB, SET_CODE])
def test_an_access_list_that_is_null_is_empty_and_one_that_is_missing_a_fault(kind: dict[str, Any]) -> None:
    assert row(dynamic(accessList=None, **kind))["access_list"] == []
    with pytest.raises(DataFault, match="accessList: missing"):
        row(without(dynamic(**kind), "accessList"))


def test_gas_used_is_cumulative() -> None:
    receipts = [receipt(cumulativeGasUsed=hex(21000 * n), gasUsed="0x5208") for n in (1, 2, 3)]
    found = rows_of(answer(legacy(), legacy(), legacy(), receipts=receipts), "transactions")
    assert [one["gas_used"] for one in found] == [21000, 42000, 63000]


@pytest.mark.parametrize("outcome", [{"root": H32}, {"root": H32, "status": None}])
def test_a_receipt_before_byzantium_has_a_root_and_counts_as_a_success(outcome: dict[str, Any]) -> None:
    before = without(receipt(), "status") | outcome
    (found,) = rows_of(answer(legacy(), receipts=[before]), "transactions")
    assert (found["status"], found["state_root"]) == (True, b"\xab" * 32)


@pytest.mark.parametrize("root", [H32, "0x", None, "nonsense"])
def test_status_comes_before_root(root: str | None) -> None:
    found = row(legacy(), status="0x0", root=root)
    assert (found["status"], found["state_root"]) == (False, None)


@pytest.mark.parametrize("status", ["0x2", hex(2**200)])
def test_a_status_is_0_or_1(status: str) -> None:
    with pytest.raises(DataFault, match=f"tx 0 .* status: {status} is not a status"):
        row(legacy(), status=status)
