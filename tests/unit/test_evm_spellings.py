"""One value, spelled as real nodes spell it; and what is no spelling."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.hashing import EMPTY_ROOT
from ampd_ray.errors import DataFault
from tests.fakes.evm_answers import (
    ADDRESS,
    BLOB,
    H32,
    NETWORK,
    SET_CODE,
    answer,
    dynamic,
    legacy,
    log,
    receipt,
    row,
    rows_of,
    typed,
)
from tests.reference import comparable, reference_rows


def upper(value: Any) -> Any:
    """The same answer in upper-case hex, the 0X too."""
    if isinstance(value, dict):
        return {name: upper(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [upper(inner) for inner in value]
    return value.upper() if isinstance(value, str) else value


def padded(value: Any) -> Any:
    """The same answer with quantities of 32 bytes and more."""
    if isinstance(value, dict):
        return {name: padded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [padded(inner) for inner in value]
    return f"0x{value[2:]:0>70}" if isinstance(value, str) and len(value) % 2 + 1 and 2 < len(value) < 20 else value


def numeric(value: Any) -> Any:
    """The same answer with quantities as JSON integers."""
    if isinstance(value, dict):
        return {name: numeric(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [numeric(inner) for inner in value]
    return int(value, 16) if isinstance(value, str) and 2 < len(value) < 20 else value


WHOLE = answer(
    legacy(),
    dynamic(accessList=[{"address": ADDRESS, "storageKeys": [H32]}]),
    dynamic(**BLOB),
    dynamic(**SET_CODE),
    receipts=[receipt(logs=[log(topics=[H32, H32], data="0x" + "ab" * 40)]), *[receipt() for _ in range(3)]],
    extraData="0x",
    baseFeePerGas="0x7",
    nonce="0x0000000000000042",
)


@pytest.mark.parametrize("respell", [upper, padded, numeric])
def test_other_spellings_make_the_same_rows(respell: Any) -> None:
    plain, odd = decode([typed(WHOLE)], NETWORK), decode([typed(respell(WHOLE))], NETWORK)
    assert json.dumps(respell(WHOLE)) != json.dumps(WHOLE)
    for name, table in plain.items():
        assert odd[name].equals(table)
        assert comparable(table) == reference_rows([WHOLE])[name]


def test_keys_that_no_table_stores_are_passed_over() -> None:
    """Parity's, and whatever a chain adds."""
    parity = {"author": ADDRESS, "sealFields": ["0xa0" + "00" * 32], "size": "0x220", "uncles": []}
    signed = {"condition": None, "creates": None, "publicKey": "0x01", "raw": "0x01", "standardV": "0x0"}
    transaction = legacy(v="0x1b", chainId=None, **signed)
    block = answer(transaction, receipts=[receipt(type=[], effectiveGasPrice=None)], l1BlockNumber={}, **parity)
    plain = answer(legacy(v="0x1b"))
    for name, table in decode([typed(plain)], NETWORK).items():
        assert decode([typed(block)], NETWORK)[name].equals(table)


def test_receipts_say_neither_type_nor_effective_price() -> None:
    bare = {"transactionHash": H32, "cumulativeGasUsed": "0x5208", "root": H32, "logs": []}
    (found,) = rows_of(answer(legacy(), receipts=[bare]), "transactions")
    assert (found["type"], found["gas_price"]) == (0, 100)


@pytest.mark.parametrize("bad", ["", "0x", "x1", "1", "21000", "0x1g", " 0x1", "0x1 ", "0x_1", "0x1_0", "+0x1", "-0x1"])
def test_what_is_no_quantity(bad: str) -> None:
    for field in ("nonce", "gas", "value", "gasPrice", "r"):
        with pytest.raises(DataFault, match=rf"tx 0 {H32} {field}: .* is not a quantity"):
            row(legacy(**{field: bad}))


@pytest.mark.parametrize("bad", ["", "x", "0xabc", "0xzz", "ab", "0x ab", "0xab cd", "0xab\n", "0x" + "ab" * 31])
def test_what_is_no_hash(bad: str) -> None:
    with pytest.raises(DataFault, match=r"tx 0 [\s\S]* hash: [\s\S]* is not 32 bytes of hex data"):
        row(legacy(hash=bad))


def test_a_block_without_transactions_has_one_row() -> None:
    root = "0x" + EMPTY_ROOT.hex()
    tables = decode([typed(answer(transactionsRoot=root, receiptsRoot=root))], NETWORK)
    assert {name: table.num_rows for name, table in tables.items()} == {"blocks": 1, "transactions": 0, "logs": 0}
