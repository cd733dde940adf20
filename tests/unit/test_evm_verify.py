"""Verification of rows: fresh, and read back from Parquet (data.md 9)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.quirks import state_sync_hash
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.evm.verify import Check, Level, Result, verify_blocks
from tests.reference import read_set

Tables = dict[str, pa.Table]

FROM_ROWS = {
    "testchain-execution-apis": Result.PASS,
    "mainnet-forks": Result.PASS,
    "rpc-mainnet": Result.PASS,
    "mainnet-era1-00000": Result.PASS,
    "rpc-polygon": Result.PASS,
    "polygon-statesync": Result.PASS,
    "chainstorage-base-goerli": Result.PARTIAL,
    "chainstorage-native-base-goerli": Result.PARTIAL,
    "rpc-arbitrum": Result.UNSUPPORTED,
    "rpc-cronos": Result.UNSUPPORTED,
    "rpc-tempo": Result.UNSUPPORTED,
}

_decoder = msgspec.json.Decoder(BlockAndReceipts)


def load(folder: Path) -> list[BlockAndReceipts]:
    return [_decoder.decode(json.dumps(answer)) for answer in read_set(folder)]


def chain_of(folder: Path) -> int:
    """The id of the chain that a set is of."""
    return int(json.loads((folder / "meta.json").read_text())["chainId"])


def through_parquet(tables: Tables, folder: Path) -> Tables:
    read: Tables = {}
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        pq.write_table(table, path, version="2.6", use_compliant_nested_type=False, row_group_size=1000)
        read[name] = pq.read_table(path)
        assert read[name].schema.equals(SCHEMAS[name], check_metadata=True)
    return read


@pytest.mark.parametrize("name", FROM_ROWS)
def test_the_rows_of_real_blocks(chain_data: Path, tmp_path: Path, name: str) -> None:
    tables, chain_id = decode(load(chain_data / name), name), chain_of(chain_data / name)
    verdicts = verify_blocks(tables, level=Level.FULL, chain_id=chain_id)
    assert {verdict.result for verdict in verdicts} == {FROM_ROWS[name]}
    assert [verdict.block for verdict in verdicts] == tables["blocks"]["block_num"].to_pylist()
    assert verify_blocks(through_parquet(tables, tmp_path), level=Level.FULL, chain_id=chain_id) == verdicts


WITH_ANSWERS = dict.fromkeys(FROM_ROWS, Result.PASS) | {
    "rpc-ropsten-rosetta": Result.PASS,
    "rpc-arbitrum": Result.UNSUPPORTED,  # roots with types whose encoding is not known
    "rpc-cronos": Result.UNSUPPORTED,  # neither it nor Tempo hashes blocks as Ethereum does
    "rpc-tempo": Result.UNSUPPORTED,
}


@pytest.mark.parametrize("name", WITH_ANSWERS)
def test_with_the_answers_at_hand_deposits_and_double_outcomes_verify_in_full(chain_data: Path, name: str) -> None:
    blocks = load(chain_data / name)
    verdicts = verify_blocks(decode(blocks, name), blocks, Level.FULL, chain_of(chain_data / name))
    assert {verdict.result for verdict in verdicts} == {WITH_ANSWERS[name]}


@pytest.mark.parametrize("name", ["rpc-cronos", "rpc-tempo"])
def test_a_chain_that_hashes_otherwise_is_taken_for_a_liar_where_it_is_not_known(chain_data: Path, name: str) -> None:
    verdicts = verify_blocks(decode(load(chain_data / name), name))
    assert {(verdict.result, verdict.check) for verdict in verdicts} == {(Result.FAIL, Check.BLOCK_HASH)}


OTHERWISE = [
    ("rpc-cronos", "transactions", "from", bytes(20), Check.SENDER),
    ("rpc-cronos", "transactions", "tx_hash", bytes(32), Check.TRANSACTION_HASH),
    ("rpc-cronos", "logs", "block_hash", bytes(32), Check.COPIES),
    ("rpc-cronos", "logs", "tx_index", 9999, Check.RECEIPTS_ROOT),
    ("rpc-cronos", "logs", "log_index", 7, Check.RECEIPTS_ROOT),
    ("rpc-cronos", "transactions", "tx_index", 5, Check.TRANSACTIONS_ROOT),
    ("rpc-cronos", "blocks", "blob_gas_used", 1, Check.BLOCK_HASH),
    ("rpc-tempo", "transactions", "value", "1", Check.TRANSACTIONS_ROOT),
    ("rpc-tempo", "transactions", "gas_used", 1, Check.RECEIPTS_ROOT),
]


@pytest.mark.parametrize(("name", "table", "column", "value", "check"), OTHERWISE)
def test_what_such_a_chain_does_hash_is_checked(
    chain_data: Path, name: str, table: str, column: str, value: Any, check: Check
) -> None:
    last, chain_id = load(chain_data / name)[-1:], chain_of(chain_data / name)
    tables = decode(last, name)
    (verdict,) = verify_blocks(tables, last, Level.FULL, chain_id)
    assert (verdict.result, verdict.check) == (Result.UNSUPPORTED, Check.BLOCK_HASH)
    assert verdict.missing
    forged = tables | {table: replaced(tables[table], column, 0, value)}
    (verdict,) = verify_blocks(forged, last, Level.FULL, chain_id)
    assert (verdict.result, verdict.check) == (Result.FAIL, check)


def test_rows_alone_cannot_verify_receipts_that_said_status_and_root(chain_data: Path) -> None:
    """Where both were sent the root is not stored (data.md 1.4.2), but it is what the trie has."""
    verdicts = verify_blocks(decode(load(chain_data / "rpc-ropsten-rosetta"), "ropsten"))
    assert Counter((verdict.result, verdict.check) for verdict in verdicts) == {
        (Result.PASS, None): 2,
        (Result.PARTIAL, Check.RECEIPTS_ROOT): 7,
    }


@pytest.mark.parametrize("level", [Level.ROOTS, Level.FULL])
@pytest.mark.parametrize("kind", ["0x64", "0x7e", "0x7f", "0x5"])
def test_a_type_that_a_chain_has_none_of_does_not_keep_its_roots_from_being_compared(
    chain_data: Path, kind: str, level: Level
) -> None:
    """One spoiled field would else have passed whatever was forged beside it."""
    for answer in read_set(chain_data / "mainnet-forks"):
        if not answer["block"]["transactions"]:
            continue
        answer["block"]["transactions"][0]["type"] = kind
        answer["receipts"][0]["type"] = kind
        blocks = [_decoder.decode(json.dumps(answer))]
        tables = decode(blocks, "mainnet")
        for raw in (blocks, None):
            (verdict,) = verify_blocks(tables, raw, level, 1)
            assert (verdict.result, verdict.check) == (Result.FAIL, Check.TRANSACTIONS_ROOT)


def test_nobody_can_add_a_state_sync_where_there_are_none(chain_data: Path) -> None:
    """Made-up logs in a transaction that no root covers, as Bor has it on Polygon."""
    *_, answer = read_set(chain_data / "mainnet-forks")
    block, last = answer["block"], answer["receipts"][-1]
    number, block_hash = int(block["number"], 16), bytes.fromhex(block["hash"][2:])
    nobody, tx_hash = "0x" + "00" * 20, "0x" + state_sync_hash(number, block_hash).hex()
    index = hex(len(answer["receipts"]))
    place = {"blockHash": block["hash"], "blockNumber": block["number"], "transactionIndex": index}
    zero = dict.fromkeys(("nonce", "gas", "gasPrice", "value", "v", "r", "s"), "0x0")
    block["transactions"].append(zero | place | {"hash": tx_hash, "from": nobody, "to": nobody, "input": "0x"})
    answer["receipts"].append(last | place | {"transactionHash": tx_hash, "logs": []})
    blocks = [_decoder.decode(json.dumps(answer))]
    for raw in (blocks, None):
        (verdict,) = verify_blocks(decode(blocks, "mainnet"), raw, Level.FULL, 1)
        assert (verdict.result, verdict.check) == (Result.FAIL, Check.TRANSACTIONS_ROOT)


def replaced(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    index = table.schema.get_field_index(column)
    return table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))


FORGERIES = [
    ("blocks", "gas_used", 1, Check.BLOCK_HASH),
    ("blocks", "state_root", bytes(32), Check.BLOCK_HASH),
    ("blocks", "requests_hash", None, Check.BLOCK_HASH),
    ("blocks", "blob_gas_used", None, Check.BLOCK_HASH),
    ("blocks", "nonce", 1, Check.BLOCK_HASH),
    ("transactions", "nonce", 12345, Check.TRANSACTIONS_ROOT),
    ("transactions", "value", "1", Check.TRANSACTIONS_ROOT),
    ("transactions", "to", bytes(20), Check.TRANSACTIONS_ROOT),
    ("transactions", "input", b"forged", Check.TRANSACTIONS_ROOT),
    ("transactions", "chain_id", None, Check.TRANSACTIONS_ROOT),
    ("transactions", "v_parity", None, Check.TRANSACTIONS_ROOT),
    ("transactions", "tx_hash", bytes(32), Check.TRANSACTION_HASH),
    ("transactions", "gas_used", 1, Check.RECEIPTS_ROOT),
    ("transactions", "state_root", bytes(32), Check.RECEIPTS_ROOT),
    ("logs", "data", b"forged", Check.RECEIPTS_ROOT),
    ("logs", "address", bytes(20), Check.RECEIPTS_ROOT),
    ("logs", "topic0", None, Check.RECEIPTS_ROOT),
    ("logs", "tx_index", 9999, Check.RECEIPTS_ROOT),
]


@pytest.fixture(scope="module")
def prague(chain_data: Path) -> Tables:
    """The last mainnet block of the set, of the Prague fork."""
    return decode(load(chain_data / "mainnet-forks")[-1:], "mainnet")


@pytest.mark.parametrize(("table", "column", "value", "check"), FORGERIES)
def test_a_forged_value_is_found(prague: Tables, table: str, column: str, value: Any, check: Check) -> None:
    row = prague["transactions"]["type"].to_pylist().index(2) if table == "transactions" else 0
    if column == "v_parity":
        value = not prague[table][column][row].as_py()
    forged = prague | {table: replaced(prague[table], column, row, value)}
    (verdict,) = verify_blocks(forged, level=Level.FULL)
    assert verdict.failed
    assert verdict.check is check
    assert verdict.expected != verdict.computed


def test_a_lost_or_doubled_row_is_found(prague: Tables) -> None:
    for name, check in [("transactions", Check.TRANSACTIONS_ROOT), ("logs", Check.RECEIPTS_ROOT)]:
        table = prague[name]
        for changed in (table.slice(0, table.num_rows - 1), pa.concat_tables([table, table.slice(0, 1)])):
            (verdict,) = verify_blocks(prague | {name: changed})
            assert (verdict.result, verdict.check) == (Result.FAIL, check)


def test_rows_of_no_block_are_an_error(prague: Tables) -> None:
    with pytest.raises(ValueError, match="not in the table blocks"):
        verify_blocks(prague | {"blocks": prague["blocks"].slice(0, 0)})


def test_a_huge_authorization_chain_id_verifies_only_with_the_answer(chain_data: Path) -> None:
    """The stored row has 0 in its place, so that the test forges the answer's and asks for another result."""
    blocks = [b for b in load(chain_data / "testchain-execution-apis") if any(t.type == "0x4" for t in b.transactions)]
    tables = decode(blocks, "test")
    assert not any(verdict.failed for verdict in verify_blocks(tables, blocks))
    for block in blocks:
        for transaction in block.transactions:
            for authorization in transaction.authorization_list or ():
                authorization.chain_id = hex(2**70)
    assert all(verdict.check is Check.TRANSACTIONS_ROOT for verdict in verify_blocks(tables, blocks))
