"""Transactions of unknown types, and of types that are not said (data.md 1.4.1)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.hashing import keccak256
from ampd_ray.datasets.evm.quirks import state_sync_hash
from ampd_ray.datasets.evm.rpc import BLOCK
from ampd_ray.errors import DataFault, ValueOverflow
from tests.fakes.evm_answers import (
    ADDRESS,
    AUTHORIZATION,
    H32,
    answer,
    dynamic,
    header,
    legacy,
    row,
    rows_of,
    typed,
    without,
)
from tests.fakes.memory import peak

LENIENT_FIELDS = [
    "to",
    "value",
    "input",
    "nonce",
    "gas",
    "gasPrice",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "chainId",
    "r",
    "s",
    "v",
    "yParity",
    "accessList",
    "blobVersionedHashes",
    "authorizationList",
]
OTHER = "0x" + "01" * 32


BARE = {"hash": H32, "from": ADDRESS, "type": "0x6a"}


def test_an_unknown_type_needs_a_hash_a_sender_and_a_receipt_only() -> None:
    found = row(BARE)
    assert found == {
        "_block_num": 7,
        "block_hash": b"\xab" * 32,
        "block_num": 7,
        "timestamp": 16 * 10**9,
        "tx_index": 0,
        "tx_hash": b"\xab" * 32,
        "to": None,
        "nonce": 0,
        "gas_price": None,
        "gas_limit": 0,
        "value": "0",
        "input": b"",
        "r": bytes(32),
        "s": bytes(32),
        "v_parity": False,
        "chain_id": None,
        "gas_used": 21000,
        "type": 0x6A,
        "max_fee_per_gas": 0,
        "max_priority_fee_per_gas": None,
        "max_fee_per_blob_gas": None,
        "from": b"\xcd" * 20,
        "status": True,
        "state_root": None,
        "access_list": None,
        "blob_versioned_hashes": None,
        "authorization_list": None,
    }
    for field in ("hash", "from"):
        with pytest.raises(DataFault, match=f"{field}: missing"):
            row(without(BARE, field))
    with pytest.raises(DataFault, match="status: missing"):
        row(BARE, status=None)


@pytest.mark.parametrize("kind", ["0x5", "0x64", "0x68", "0x6a", "0x76", "0x7e", "0x7f", "0xff", hex(2**31 - 1)])
def test_an_unknown_type_keeps_its_number(kind: str) -> None:
    assert row(BARE | {"type": kind})["type"] == int(kind, 16)


@pytest.mark.parametrize("junk", [None, "", "0x", "0xzz", "-0x1", "latest", {}, [], {"a": [1]}, True, 1.5, [[["x"]]]])
def test_an_unknown_type_reads_what_is_malformed_as_missing(junk: Any) -> None:
    (bare,) = rows_of(answer(BARE), "transactions")
    for field in LENIENT_FIELDS:
        assert row(BARE | {field: junk}) == bare, field


def test_an_unknown_type_with_megabytes_of_input_takes_no_more_than_a_few_of_them() -> None:
    sent = typed(answer(BARE | {"input": "0x" + "ab" * (4 << 20)}))
    with peak() as memory:
        tables = decode([sent], "test")
    assert len(tables["transactions"]["input"][0].as_py()) == 4 << 20
    assert memory.grown < 64 << 20


@pytest.mark.parametrize("field", ["nonce", "gas", "chainId"])
def test_an_unknown_type_narrows_nothing(field: str) -> None:
    with pytest.raises(ValueOverflow, match=f"tx 0 .* {field}: .* does not fit UInt64"):
        row(BARE | {field: hex(2**64)})
    with pytest.raises(ValueOverflow, match=f"tx 0 .* {field}: .* does not fit UInt64"):
        row(BARE | {field: 2**64, "input": {}})
    for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
        with pytest.raises(ValueOverflow, match=rf"tx 0 .* {fee}: .* does not fit Decimal128"):
            row(BARE | {fee: hex(10**38)})


@pytest.mark.parametrize("kind", ["0x0", "0x2", None])
def test_a_known_type_is_never_read_leniently(kind: str | None) -> None:
    junks: list[Any] = [{}, [], True, 1.5]
    for junk in junks:
        with pytest.raises(msgspec.ValidationError, match=r"transaction 1: .* at `\$.input`"):
            BLOCK.decode(json.dumps(header(transactions=[legacy(), dynamic(type=kind, input=junk)])))


def test_an_op_deposit() -> None:
    """Base block 33411770, transaction 0, in short."""
    deposit = {
        "type": "0x7e",
        "hash": H32,
        "from": "0xdeaddeaddeaddeaddeaddeaddeaddeaddead0001",
        "to": "0x4200000000000000000000000000000000000015",
        "gas": "0xf4240",
        "gasPrice": "0x0",
        "value": "0x0",
        "nonce": hex(33_411_772),
        "input": "0x098999be",
        "mint": None,
        "sourceHash": OTHER,
        "isSystemTx": False,
        "v": "0x0",
        "r": "0x0",
        "s": "0x0",
        "yParity": "0x0",
        "depositReceiptVersion": "0x1",
    }
    found = row(deposit, depositNonce=hex(33_411_772), depositReceiptVersion="0x1")
    assert (found["type"], found["gas_price"], found["max_fee_per_gas"], found["chain_id"]) == (126, None, 0, None)
    assert (found["r"], found["s"], found["nonce"], found["gas_limit"]) == (bytes(32), bytes(32), 33_411_772, 10**6)


def test_a_transaction_of_arbitrum_and_one_of_tempo() -> None:
    internal = legacy(type="0x6a", chainId="0xa4b1", gas="0x0", gasPrice="0x0", v="0x0", r="0x0", s="0x0")
    assert (row(internal)["chain_id"], row(internal)["max_fee_per_gas"]) == (42161, 0)
    account = without(dynamic(type="0x76", chainId="0x1079"), "v", "yParity", "r", "s", "input", "value", "to")
    found = row(account | {"calls": [{"to": ADDRESS}], "nonceKey": "0x0", "signature": {"r": "0x1"}})
    assert (found["to"], found["value"], found["input"], found["max_fee_per_gas"]) == (None, "0", b"", 200)


def test_a_state_sync_transaction_of_polygon_is_a_row() -> None:
    nobody = "0x" + "00" * 20
    synthetic = {"from": nobody, "to": nobody, "gas": "0x0", "gasPrice": "0x0", "v": "0x0", "r": "0x0", "s": "0x0"}
    tx_hash = "0x" + state_sync_hash(7, bytes.fromhex(H32[2:])).hex()
    found = row(legacy(hash=tx_hash, **synthetic), transactionHash=tx_hash, cumulativeGasUsed="0x0")
    assert (found["from"], found["to"], found["chain_id"], found["gas_used"]) == (bytes(20), bytes(20), None, 0)
    assert tx_hash[2:] == keccak256(b"matic-bor-receipt-" + (7).to_bytes(8, "big") + bytes.fromhex(H32[2:])).hex()


@pytest.mark.parametrize("spelled", [{}, {"type": None}, {"type": "0x0"}, {"type": "0x00"}, {"type": 0}])
def test_a_missing_type_is_0(spelled: dict[str, Any]) -> None:
    assert row(without(legacy(), "type") | spelled)["type"] == 0


@pytest.mark.parametrize("spelled", ["0x2", "0x02", "0X2", 2])
def test_a_type_in_every_spelling(spelled: Any) -> None:
    assert row(dynamic(type=spelled))["type"] == 2


@pytest.mark.parametrize(
    "extra",
    [
        {"accessList": []},
        {"accessList": [{"address": ADDRESS, "storageKeys": []}]},
        {"maxFeePerGas": "0x1"},
        {"maxPriorityFeePerGas": "0x0"},
        {"maxFeePerBlobGas": "0x1"},
        {"blobVersionedHashes": [H32]},
        {"authorizationList": [AUTHORIZATION]},
    ],
)
def test_a_missing_type_is_not_guessed_where_the_fields_are_of_another(extra: dict[str, Any]) -> None:
    with pytest.raises(DataFault, match=r"tx 0 .* type: missing"):
        row(without(legacy(), "type") | extra)
