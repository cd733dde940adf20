"""Decoding against the reference decoder on real chains, and value by value on made-up ones."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.datasets.evm import columns
from ampd_ray.datasets.evm.decode import decode, links
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.errors import DataFault, ValueOverflow
from tests.fakes.evm_answers import (
    ADDRESS,
    AUTHORIZATION,
    H32,
    NETWORK,
    answer,
    dynamic,
    header,
    legacy,
    log,
    receipt,
    row,
    typed,
)
from tests.fakes.memory import peak
from tests.reference import comparable, read_set, reference_rows

SETS = [
    "testchain-execution-apis",
    "mainnet-forks",
    "rpc-mainnet",
    "mainnet-era1-00000",
    "rpc-polygon",
    "polygon-statesync",
    "chainstorage-base-goerli",
    "chainstorage-native-base-goerli",
    "rpc-arbitrum",
    "rpc-cronos",
    "rpc-tempo",
    "rpc-ropsten-rosetta",
]

# -- real chains ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_a_set_decodes_to_the_rows_of_the_reference(chain_data: Path, name: str) -> None:
    answers = list(read_set(chain_data / name))
    tables = decode([typed(one) for one in answers], NETWORK)
    expected = reference_rows(answers)
    for table, rows in expected.items():
        tables[table].validate(full=True)
        assert tables[table].schema.equals(SCHEMAS[table], check_metadata=True)
        assert comparable(tables[table]) == rows
        assert all(column.num_chunks <= 1 for column in tables[table].columns)


def test_block_by_block_gives_the_same_tables_as_all_at_once(chain_data: Path) -> None:
    blocks = [typed(one) for one in read_set(chain_data / "rpc-mainnet")]
    together = decode(blocks, NETWORK)
    alone = [decode([block], NETWORK) for block in blocks]
    for name, table in together.items():
        assert pa.concat_tables([part[name] for part in alone]).combine_chunks().equals(table)


def test_links_are_those_of_the_headers(chain_data: Path) -> None:
    answers = list(read_set(chain_data / "testchain-execution-apis"))
    chain = links([typed(one) for one in answers], NETWORK)
    assert len(chain) == len(answers)
    assert chain.breaks() == []
    assert chain.hash(54).hex() == answers[54]["block"]["hash"][2:]
    assert chain.parent(54) == chain.hash(53)
    assert chain.timestamp(54) == int(answers[54]["block"]["timestamp"], 16)
    assert len(pickle.loads(pickle.dumps(chain))) == len(chain)


# -- transactions by type ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("v", "parity", "chain_id"),
    [("0x1b", False, None), ("0x1c", True, None), ("0x25", False, 1), ("0x26", True, 1), ("0x0", False, 9)],
)
def test_a_legacy_transaction(v: str, parity: bool, chain_id: int | None) -> None:
    found = row(legacy(v=v, chainId="0x9"))
    assert (found["v_parity"], found["chain_id"]) == (parity, chain_id)
    assert (found["gas_price"], found["max_fee_per_gas"], found["max_priority_fee_per_gas"]) == (100, 100, None)
    assert (found["access_list"], found["blob_versioned_hashes"], found["authorization_list"]) == (None, None, None)
    assert (found["r"], found["s"]) == ((1).to_bytes(32, "big"), (2).to_bytes(32, "big"))
    assert found["from"] == b"\xcd" * 20


def test_the_largest_chain_id_of_a_protected_legacy_transaction_fits() -> None:
    assert row(legacy(v=hex(2 * (2**64 - 1) + 36)))["chain_id"] == 2**64 - 1


def test_a_transaction_without_type_is_legacy_unless_its_fields_say_otherwise() -> None:
    plain = legacy()
    del plain["type"]
    assert row(plain)["type"] == 0
    with pytest.raises(DataFault, match="type: missing"):
        row(plain | {"maxFeePerGas": "0x1"})


def test_an_access_list_transaction() -> None:
    entries = [{"address": ADDRESS, "storageKeys": [H32, H32]}, {"address": ADDRESS, "storageKeys": []}]
    found = row(legacy(type="0x1", chainId="0x1", accessList=entries, v="0x0", yParity="0x0"))
    assert (found["gas_price"], found["max_fee_per_gas"], found["max_priority_fee_per_gas"]) == (100, 100, None)
    assert [len(entry["storage_keys"]) for entry in found["access_list"]] == [2, 0]
    assert found["chain_id"] == 1


@pytest.mark.parametrize("empty", [[], None])
def test_an_empty_access_list_is_empty_and_not_null(empty: list[Any] | None) -> None:
    found = row(dynamic(accessList=empty))
    assert found["access_list"] == []
    assert found["gas_price"] is None
    assert (found["max_fee_per_gas"], found["max_priority_fee_per_gas"]) == (200, 1)


def test_a_blob_transaction() -> None:
    found = row(dynamic(type="0x3", maxFeePerBlobGas="0x5", blobVersionedHashes=[H32]))
    assert (found["max_fee_per_blob_gas"], found["blob_versioned_hashes"]) == (5, [b"\xab" * 32])
    assert found["authorization_list"] is None


def test_a_set_code_transaction() -> None:
    found = row(dynamic(type="0x4", authorizationList=[AUTHORIZATION]))
    assert found["authorization_list"] == [
        {
            "chain_id": 1,
            "address": b"\xcd" * 20,
            "nonce": 3,
            "y_parity": True,
            "r": (4).to_bytes(32, "big"),
            "s": b"\xab" * 32,
        }
    ]
    assert (found["blob_versioned_hashes"], found["max_fee_per_blob_gas"]) == (None, None)


def test_an_authorization_of_a_huge_chain_id_is_stored_as_zero_and_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = row(dynamic(type="0x4", authorizationList=[AUTHORIZATION | {"chainId": H32}]))
    assert found["authorization_list"][0]["chain_id"] == 0
    assert "cannot verify" in caplog.text


def test_an_unknown_type_keeps_its_number_and_reads_leniently() -> None:
    deposit = {"hash": H32, "from": ADDRESS, "type": "0x7e", "to": "0x12", "value": "zz", "nonce": "0x9", "gas": None}
    found = row(deposit)
    assert (found["type"], found["to"], found["value"], found["nonce"], found["gas_limit"]) == (126, None, "0", 9, 0)
    assert (found["input"], found["r"], found["s"], found["v_parity"]) == (b"", bytes(32), bytes(32), False)
    assert (found["gas_price"], found["max_fee_per_gas"], found["chain_id"]) == (None, 0, None)
    assert found["access_list"] is None


def test_an_unknown_type_keeps_what_it_has() -> None:
    found = row(dynamic(type="0x6a", chainId="0xa4b1"))
    assert (found["max_fee_per_gas"], found["max_priority_fee_per_gas"], found["chain_id"]) == (200, 1, 42161)
    assert (found["r"], found["v_parity"], found["access_list"]) == (bytes(32), False, None)


def test_contract_creation_has_no_recipient() -> None:
    assert row(legacy(to=None))["to"] is None


@pytest.mark.parametrize(
    ("outcome", "status", "root"),
    [
        ({"status": "0x1"}, True, None),
        ({"status": "0x0"}, False, None),
        ({"status": "0x0", "root": H32}, False, None),
        ({"status": None, "root": H32}, True, b"\xab" * 32),
    ],
)
def test_status_and_state_root(outcome: dict[str, Any], status: bool, root: bytes | None) -> None:
    found = row(legacy(), **outcome)
    assert (found["status"], found["state_root"]) == (status, root)


def test_neither_status_nor_root_is_a_fault() -> None:
    with pytest.raises(DataFault, match=f"devnet block 7 tx 0 {H32} status: missing"):
        row(legacy(), status=None)


def test_absent_header_fields_have_their_defaults() -> None:
    found = comparable(decode([typed(answer())], NETWORK)["blocks"])[0]
    assert (found["mix_hash"], found["nonce"], found["total_difficulty"]) == (bytes(32), 0, None)
    assert found["base_fee_per_gas"] is found["requests_hash"] is None
    full = answer(mixHash=H32, nonce="0x0000000000000102", totalDifficulty="0xffffffffffffffffffff")
    found = comparable(decode([typed(full)], NETWORK)["blocks"])[0]
    assert (found["mix_hash"], found["nonce"], found["total_difficulty"]) == (b"\xab" * 32, 258, 2**80 - 1)


# -- odd spellings ----------------------------------------------------------------------------------------------


def test_upper_case_padded_and_plain_numbers_are_read() -> None:
    found = row(legacy(nonce="0X0A", gas=21000, gasPrice="0x000000000000000000000000000000000000000000000064"))
    assert (found["nonce"], found["gas_limit"], found["gas_price"]) == (10, 21000, 100)
    assert row(legacy(input="0XABCD"))["input"] == b"\xab\xcd"
    assert row(legacy(hash="0X" + "AB" * 32))["tx_hash"] == b"\xab" * 32


def test_the_largest_values_fit() -> None:
    found = row(legacy(value=hex(2**256 - 1), nonce=hex(2**64 - 1), gasPrice=hex(10**38 - 1), r=hex(2**256 - 1)))
    assert (found["value"], found["nonce"]) == (str(2**256 - 1), 2**64 - 1)
    assert (found["gas_price"], found["r"]) == (10**38 - 1, b"\xff" * 32)


def test_no_blocks_and_empty_blocks_have_the_schemas_too() -> None:
    for blocks in ([], [typed(answer())]):
        tables = decode(blocks, NETWORK)
        assert all(tables[name].schema.equals(schema, check_metadata=True) for name, schema in SCHEMAS.items())
        assert tables["logs"].num_rows == 0
    assert list(decode([], NETWORK, ("logs",))) == ["logs"]


# -- bad values -------------------------------------------------------------------------------------------------

OVERFLOWS = [
    (answer(legacy(), dynamic(maxFeePerGas=hex(2**130))), "tx 1", "maxFeePerGas", "Decimal128"),
    (answer(legacy(), legacy(gasPrice=hex(10**38))), "tx 1", "gasPrice", "Decimal128"),
    (answer(legacy(nonce=hex(2**64))), "tx 0", "nonce", "UInt64"),
    (answer(legacy(value=hex(2**256))), "tx 0", "value", "256 bits"),
    (answer(legacy(type=hex(2**31))), "tx 0", "type", "Int32"),
    (answer(dynamic(chainId=hex(2**64))), "tx 0", "chainId", "UInt64"),
    (answer(legacy(type="0x7e", nonce=hex(2**70))), "tx 0", "nonce", "UInt64"),
    (answer(gasLimit=hex(2**64)), "header", "gasLimit", "UInt64"),
    (answer(timestamp=hex(2**63 // 10**9 + 1)), "header", "timestamp", "Timestamp"),
    (answer(legacy(), receipts=[receipt(logs=[log(logIndex=hex(2**32))])]), "log 4294967296", "logIndex", "UInt32"),
]


@pytest.mark.parametrize(("bad", "where", "field", "kind"), OVERFLOWS)
def test_a_value_that_does_not_fit_stops_the_block(bad: dict[str, Any], where: str, field: str, kind: str) -> None:
    with pytest.raises(ValueOverflow) as caught:
        decode([typed(answer()), typed(bad)], NETWORK)
    assert caught.value.message.startswith("devnet block 7 ")
    assert f"{where}" in caught.value.message
    assert f" {field}: " in caught.value.message
    assert f"does not fit {kind}" in caught.value.message
    assert caught.value.details["field"] == field


FAULTS = [
    (answer(miner=ADDRESS[:-2]), "devnet block 7 header miner: .* is not 20 bytes of hex data"),
    (answer(stateRoot=None), "devnet block 7 header stateRoot: missing"),
    (answer(logsBloom="0x00"), "devnet block 7 header logsBloom"),
    (answer(hash="nonsense"), "devnet block 7 header hash"),
    (answer(gasUsed="21000"), "devnet block 7 header gasUsed: 21000 is not a quantity"),
    (answer(legacy(), legacy(input="0xabc")), f"devnet block 7 tx 1 {H32} input: 0xabc is not hex data"),
    (answer(legacy(input="0xzz")), "tx 0 .* input"),
    (answer(legacy(input=None)), "tx 0 .* input: missing"),
    (answer(legacy(gasPrice=None)), "tx 0 .* gasPrice: missing"),
    (answer(legacy(), dynamic(maxFeePerGas=None)), "tx 1 .* maxFeePerGas: missing"),
    (answer(legacy(), dynamic(maxPriorityFeePerGas=None)), "tx 1 .* maxPriorityFeePerGas: missing"),
    (answer(dynamic(chainId=None)), "tx 0 .* chainId: missing"),
    (answer({k: v for k, v in dynamic().items() if k != "accessList"}), "tx 0 .* accessList: missing"),
    (
        answer(legacy(), dynamic(accessList=[{"address": "0x1", "storageKeys": []}])),
        "tx 1 .* accessList: address 0x1",
    ),
    (answer(dynamic(accessList=[{"address": ADDRESS}])), "tx 0 .* accessList: storageKeys missing"),
    (answer(dynamic(type="0x3", maxFeePerBlobGas="0x1")), "tx 0 .* blobVersionedHashes: missing"),
    (answer(dynamic(type="0x3", blobVersionedHashes=[])), "tx 0 .* maxFeePerBlobGas: missing"),
    (answer(dynamic(type="0x4")), "tx 0 .* authorizationList: missing"),
    (answer(legacy(v="0x2")), "tx 0 .* v: 0x2 is not a signature's v"),
    (answer(legacy(v=None)), "tx 0 .* v: missing"),
    (answer(dynamic(v="0x0", yParity="0x1")), "tx 0 .* v: yParity 0x1 with v 0x0"),
    (answer(legacy(to="0x")), "tx 0 .* to: 0x is not 20 bytes"),
    (answer(legacy(nonce="-0x1")), "tx 0 .* nonce"),
    (answer(legacy(nonce="0x")), "tx 0 .* nonce"),
    (answer(legacy(nonce="10x1")), "tx 0 .* nonce"),
    (answer(legacy(nonce="0x 1")), "tx 0 .* nonce"),
    (answer(legacy(nonce="0x1 ")), "tx 0 .* nonce"),
    (answer(legacy(nonce=-1)), "tx 0 .* nonce"),
    (answer(legacy(), receipts=[]), "receipts: 0 for 1 transactions"),
    (answer(legacy(), receipts=[receipt(logs=None)]), "tx 0 .* logs: missing"),
    (answer(legacy(), receipts=[receipt(logs=[log(topics=[H32] * 5)])]), "log 0 topics: .* is not 0 to 4 topics"),
    (answer(legacy(), receipts=[receipt(logs=[log(topics=None)])]), "log 0 topics: missing"),
    (answer(legacy(), receipts=[receipt(logs=[log(), log(logIndex="0x1", topics=["0x1"])])]), "log 1 topics: 0x1"),
    (answer(legacy(), receipts=[receipt(logs=[log(blockNumber="0x8")])]), "log 0 blockNumber: 0x8"),
    (answer(legacy(), receipts=[receipt(logs=[log(blockHash="0x" + "00" * 32)])]), "log 0 blockHash"),
    (answer(legacy(), receipts=[receipt(logs=[log(transactionHash=None)])]), "log 0 transactionHash: missing"),
    (answer(legacy(), receipts=[receipt(logs=[log(transactionIndex=None)])]), "log 0 transactionIndex: missing"),
    (answer(legacy(), receipts=[receipt(logs=[log(logIndex=None)])]), "log None logIndex: missing"),
]


@pytest.mark.parametrize(("bad", "message"), FAULTS)
def test_a_malformed_or_missing_value_is_a_fault_that_names_its_place(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(DataFault, match=message) as caught:
        decode([typed(answer(legacy())), typed(bad)], NETWORK)
    assert caught.value.details["block"] == 7


def test_hashes_in_place_of_transactions_are_refused() -> None:
    block = typed({"block": header(transactions=[H32]), "receipts": [receipt()]})
    with pytest.raises(DataFault, match="hashes instead of transactions"):
        decode([block], NETWORK)


# -- columns ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1)), st.sampled_from(["0x%x", "0x%X", "0x%016x", "0x%030x", "0X%x"]))
def test_numbers_come_back(numbers: list[int], spelling: str) -> None:
    spelled = [spelling % number for number in numbers]
    assert columns.u64(spelled).tolist() == numbers
    assert [int(number) for number in columns.decimal(spelled).to_pylist()] == numbers
    assert columns.text(spelled).to_pylist() == [str(number) for number in numbers]
    assert columns.word(spelled).to_pylist() == [number.to_bytes(32, "big") for number in numbers]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=40))))
def test_bytes_come_back(values: list[bytes | None]) -> None:
    spelled = [None if value is None else "0x" + value.hex() for value in values]
    assert columns.present(len(spelled), columns.binary, spelled).to_pylist() == values


@settings(deadline=None)
@given(st.lists(st.text(" 0x1ag_-", max_size=20), min_size=1, max_size=4))
def test_what_the_fast_way_takes_is_what_the_slow_way_would(values: list[str]) -> None:
    try:
        expected: list[int] | None = [columns.one_number(value, index) for index, value in enumerate(values)]
    except columns.ColumnError:
        expected = None
    try:
        found: list[int] | None = columns.u64(values).tolist()
    except columns.ColumnError:
        found = None
    assert found == expected


@pytest.mark.parametrize(("mark", "tail"), [("0X", ""), ("0x", "c"), ("0x", "g0")])
def test_a_value_of_megabytes_takes_no_more_than_a_few_of_them_the_slow_way(mark: str, tail: str) -> None:
    spelled = mark + "ab" * (4 << 20) + tail
    with peak() as memory, pytest.raises(columns.ColumnError) if tail else nullcontext():
        assert len(columns.binary([spelled])[0].as_py()) == 4 << 20
    assert memory.grown < 64 << 20


@pytest.mark.parametrize(
    ("value", "width", "good"),
    [
        ("0x", None, True),
        ("0x", 0, True),
        ("0Xab", 1, True),
        ("0xab", 2, False),
        ("0xabcd", 1, False),
        ("0xabc", None, False),
        ("0xag", None, False),
        ("0xab\n", None, False),
        ("0xab\n\n", None, False),
        ("0x\u0661\u0661", None, False),
        ("abab", None, False),
        ("", None, False),
    ],
)
def test_one_value_is_pairs_of_digits_and_as_many_as_wanted(value: str, width: int | None, good: bool) -> None:
    with nullcontext() if good else pytest.raises(columns.ColumnError, match="hex data"):
        assert columns.one_binary(value, width=width) == bytes.fromhex(value[2:])


def test_a_column_of_more_than_arrow_takes_asks_for_fewer_blocks() -> None:
    """An extractor that runs out of memory is given half as many, see ``actors/failures.py``."""
    most = np.array([2**31 - 2, 1], np.int64)
    assert columns.offsets(most).tolist() == [0, 2**31 - 2, 2**31 - 1]
    with pytest.raises(MemoryError, match="fewer blocks"):
        columns.offsets(most + 1)
