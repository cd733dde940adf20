"""Verification beyond real blocks: rows of any values that another implementation sealed, and what rows cannot tell."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.datasets.evm import hashing
from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.gaps import may_lack_state_roots
from ampd_ray.datasets.evm.rows import Rows
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.evm.verify import Check, Level, Result, Verdict, verify_blocks
from tests.consensus import ordered_root, rebuild
from tests.reference import comparable, read_set

Tables = dict[str, pa.Table]
_decoder = msgspec.json.Decoder(BlockAndReceipts)
EDGES = [0, 1, 127, 128, 255, 256, (1 << 64) - 1]


@pytest.fixture(scope="module")
def chain(chain_data: Path) -> list[BlockAndReceipts]:
    answers = read_set(chain_data / "testchain-execution-apis")
    return [_decoder.decode(msgspec.json.encode(answer)) for answer in answers]


def with_types(chain: list[BlockAndReceipts], *types: str) -> Tables:
    """The first block that has transactions of these types."""
    return next(decode([b], "test") for b in chain if {*types} <= {str(tx.type) for tx in b.transactions})


def put(tables: Tables, table: str, column: str, values: list[Any]) -> Tables:
    at = tables[table].schema.get_field_index(column)
    field = SCHEMAS[table].field(column)
    return tables | {table: tables[table].set_column(at, field, pa.array(values, field.type))}


def sealed(tables: Tables) -> Tables:
    """One block with the hashes and roots that its rows make by ``tests.consensus``."""
    for _ in range(2):  # the block hash covers the roots
        rows = {name: comparable(table) for name, table in tables.items()}
        built = rebuild(rows["blocks"][0], rows["transactions"], rows["logs"])
        tables = put(tables, "blocks", "transactions_root", [built.transactions_root])
        tables = put(tables, "blocks", "receipt_root", [built.receipts_root])
    tables = put(tables, "blocks", "hash", [built.block_hash])
    for name in ("transactions", "logs"):
        tables = put(tables, name, "block_hash", [built.block_hash] * tables[name].num_rows)
    hashes = [built.transaction_hashes[index] for index in range(tables["transactions"].num_rows)]
    tables = put(tables, "transactions", "tx_hash", hashes)
    return put(tables, "logs", "tx_hash", [hashes[index] for index in tables["logs"]["tx_index"].to_pylist()])


def varied(tables: Tables, rng: random.Random) -> Tables:
    """The block with other values in almost every column, of all sizes."""

    def number(limit: int) -> int:
        return rng.choice([n for n in [*EDGES, limit - 1, rng.randrange(limit), rng.randrange(1 << 16)] if n < limit])

    def data() -> bytes:
        return rng.choice([b"", b"\0", b"\x7f", b"\x80", rng.randbytes(rng.choice([2, 55, 56, 300]))])

    def word() -> bytes:
        return number(1 << 256).to_bytes(32, "big")

    transactions = tables["transactions"].to_pylist()
    for tx in transactions:
        kind, price = tx["type"], Decimal(number(10**38))
        tx |= {"nonce": number(1 << 64), "gas_limit": number(1 << 64), "value": str(number(1 << 256)), "input": data()}
        tx |= {"r": word(), "s": word(), "v_parity": rng.random() < 0.5, "max_fee_per_gas": price}
        tx |= {"gas_used": number(1 << 64), "status": tx["state_root"] is not None or rng.random() < 0.5}
        tx["to"] = None if kind < 3 and rng.random() < 0.3 else rng.randbytes(20)
        tx["chain_id"] = None if kind == 0 and rng.random() < 0.5 else number(1 << 64)
        if kind < 2:
            tx["gas_price"] = price
        else:
            tx["max_priority_fee_per_gas"] = Decimal(number(10**38))
        if kind:
            keys = [rng.randbytes(32) for _ in range(rng.randrange(3))]
            tx["access_list"] = [{"address": rng.randbytes(20), "storage_keys": keys}] * rng.randrange(3)
        if kind == 3:
            tx["blob_versioned_hashes"] = [rng.randbytes(32) for _ in range(rng.randrange(4))]
    logs = tables["logs"].to_pylist()
    for log in logs:
        count = rng.randrange(5)
        topics = {f"topic{at}": rng.randbytes(32) if at < count else None for at in range(4)}
        log.update(topics, address=rng.randbytes(20), data=data())
    header = tables["blocks"].to_pylist()[0]
    header |= {"difficulty": Decimal(number(10**38)), "nonce": number(1 << 64), "gas_used": number(1 << 64)}
    header |= {"extra_data": data(), "gas_limit": number(1 << 64)}
    rows = {"blocks": [header], "transactions": transactions, "logs": logs}
    return {name: pa.Table.from_pylist(values, SCHEMAS[name]) for name, values in rows.items()}


def test_blocks_of_any_values_that_another_implementation_sealed_pass(chain: list[BlockAndReceipts]) -> None:
    rng = random.Random(7)
    for block in chain:
        tables = sealed(varied(decode([block], "test"), rng))
        assert [verdict.result for verdict in verify_blocks(tables)] == [Result.PASS], block.block.number
    assert {str(tx.type) for block in chain for tx in block.transactions} == {"0x0", "0x1", "0x2", "0x3", "0x4"}


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=300))
def test_the_trie_is_that_of_the_definition(values: list[bytes]) -> None:
    assert hashing.ordered_trie_root(values) == ordered_root(values)


def test_long_tries_are_those_of_the_definition() -> None:
    for count in (127, 128, 129, 255, 256, 257, 1000):
        values = [index.to_bytes(3, "big") * 20 for index in range(count)]
        assert hashing.ordered_trie_root(values) == ordered_root(values)


def only(
    tables: Tables, level: Level = Level.FULL, raw: list[BlockAndReceipts] | None = None, chain_id: int | None = None
) -> Verdict:
    (verdict,) = verify_blocks(tables, raw, level, chain_id)
    return verdict


def test_level_off_says_nothing(chain: list[BlockAndReceipts]) -> None:
    assert verify_blocks(decode(chain, "test"), chain, Level.OFF) == []


def test_senders_are_what_full_adds(chain: list[BlockAndReceipts]) -> None:
    tables = with_types(chain, "0x2")
    senders = tables["transactions"]["from"].to_pylist()
    forged = put(tables, "transactions", "from", [bytes(19) + b"\1", *senders[1:]])
    assert only(forged, Level.ROOTS).result is Result.PASS
    verdict = only(forged)
    assert (verdict.check, verdict.level, verdict.expected) == (Check.SENDER, Level.FULL, "0x" + "00" * 19 + "01")
    assert verdict.computed == "0x" + senders[0].hex()


def test_a_signature_of_nobody_fails_and_none_at_all_is_partial(chain: list[BlockAndReceipts]) -> None:
    tables = with_types(chain, "0x0")
    rest = [bytes(32)] * (tables["transactions"].num_rows - 1)
    for r, result in [(b"\xff" * 32, Result.FAIL), (bytes(32), Result.PARTIAL)]:
        verdict = only(sealed(put(put(tables, "transactions", "r", [r, *rest]), "transactions", "s", [r, *rest])))
        assert (verdict.result, verdict.check) == (result, Check.SENDER)
        assert "nobody" in (verdict.computed or verdict.missing or "")


def test_a_chain_id_that_was_stored_as_0_makes_its_block_partial(chain: list[BlockAndReceipts]) -> None:
    tables = with_types(chain, "0x0", "0x4")
    lists = tables["transactions"]["authorization_list"].to_pylist()
    cut = [entries and [entry | {"chain_id": 0} for entry in entries] for entries in lists]
    assert cut != lists
    stored = put(tables, "transactions", "authorization_list", cut)
    verdict = only(stored)
    assert (verdict.result, verdict.check) == (Result.PARTIAL, Check.TRANSACTIONS_ROOT)
    assert "stored as 0" in (verdict.missing or "")
    nonces = stored["transactions"]["nonce"].to_pylist()
    nonces[lists.index(None)] += 1
    assert only(put(stored, "transactions", "nonce", nonces)).check is Check.TRANSACTIONS_ROOT
    statuses = [not status for status in stored["transactions"]["status"].to_pylist()]
    verdict = only(put(stored, "transactions", "status", statuses))
    assert (verdict.result, verdict.check) == (Result.FAIL, Check.RECEIPTS_ROOT)


def test_deposits_leave_the_other_transactions_to_full(chain_data: Path) -> None:
    answers = [_decoder.decode(msgspec.json.encode(a)) for a in read_set(chain_data / "chainstorage-base-goerli")]
    tables = decode(answers, "base")
    kinds = tables["transactions"]["type"].to_pylist()
    verdict = only(tables)
    assert (verdict.result, verdict.check) == (Result.PARTIAL, Check.TRANSACTIONS_ROOT)
    assert all(word in (verdict.missing or "") for word in ("sourceHash", "mint", "isSystemTx", "depositNonce"))
    nonces = tables["transactions"]["nonce"].to_pylist()
    nonces[kinds.index(2)] += 1
    assert only(put(tables, "transactions", "nonce", nonces)).check is Check.TRANSACTION_HASH
    answers[0].transactions[kinds.index(0x7E)].mint = "0x123"
    assert only(tables, Level.ROOTS, answers).check is Check.TRANSACTIONS_ROOT
    answers[0].transactions[kinds.index(0x7E)].source_hash = None
    assert "sourceHash" in (only(tables, Level.ROOTS, answers).computed or "")


@pytest.mark.parametrize(
    ("chain_ids", "number", "seconds", "lacking"),
    [
        ([1, None], 4_369_999, 0, True),
        ([1, None], 4_370_000, 0, False),
        ([3], 1_699_999, 0, True),
        ([61], 8_000_000, 1_560_000_000, True),
        ([None], 9_000_000, 1_560_000_000, True),
        ([None], 9_000_000, 1_570_000_000, False),
        ([1337], 5, 1_570_000_000, False),
    ],
)
def test_which_receipts_may_lack_their_state_roots(
    chain_ids: list[int | None], number: int, seconds: int, lacking: bool
) -> None:
    columns = {
        "chain_id": pa.array(chain_ids, pa.uint64()),
        "type": pa.array([0] * len(chain_ids), pa.int32()),
        "state_root": pa.nulls(len(chain_ids), pa.binary(32)),
    }
    assert may_lack_state_roots(number, seconds, Rows(pa.table(columns)), None) is lacking
    typed = columns | {"type": pa.array([2] * len(chain_ids), pa.int32())}
    assert may_lack_state_roots(number, seconds, Rows(pa.table(typed)), None) is False


@pytest.mark.parametrize(("chain_id", "number", "lacking"), [(1, 4_369_999, True), (1, 6_000_000, False), (3, 9, True)])
def test_a_chain_that_is_known_goes_by_numbers_alone(chain_id: int, number: int, lacking: bool) -> None:
    """A forged receipt of old, whose transactions name no chain, would have been excused by its date."""
    columns = {"chain_id": pa.nulls(1, pa.uint64()), "type": pa.array([0], pa.int32())}
    rows = Rows(pa.table(columns | {"state_root": pa.nulls(1, pa.binary(32))}))
    assert may_lack_state_roots(number, 1_400_000_000, rows, chain_id) is lacking


def test_a_state_sync_stands_where_it_says(chain_data: Path) -> None:
    """No root covers it, but its place in the block is plain."""
    answers = [_decoder.decode(msgspec.json.encode(answer)) for answer in read_set(chain_data / "polygon-statesync")]
    tables = decode(answers[:1], "polygon")
    indexes = tables["transactions"]["tx_index"].to_pylist()
    synthetic = tables["transactions"]["from"].to_pylist().index(bytes(20))
    assert only(tables, chain_id=137).result is Result.PASS
    assert only(tables, chain_id=1).check is Check.TRANSACTIONS_ROOT
    indexes[synthetic] = 0
    assert only(put(tables, "transactions", "tx_index", indexes), chain_id=137).check is Check.TRANSACTIONS_ROOT


def test_a_state_sync_of_another_type_is_none(chain_data: Path) -> None:
    """No root covers the type either; those that have one of their own are under the root."""
    answers = [_decoder.decode(msgspec.json.encode(answer)) for answer in read_set(chain_data / "polygon-statesync")]
    tables = decode(answers[:1], "polygon")
    types = tables["transactions"]["type"].to_pylist()
    types[tables["transactions"]["from"].to_pylist().index(bytes(20))] = 1
    assert only(put(tables, "transactions", "type", types), chain_id=137).failed
