"""The Arrow schemas of the three tables, column by column as in ``spec/data.md`` 1. No metadata, on purpose."""

from __future__ import annotations

import pyarrow as pa

from ampd_ray.datasets.tables import TABLES

__all__ = ["SCHEMAS", "TABLES"]

U64 = pa.uint64()
U32 = pa.uint32()
I32 = pa.int32()
TIMESTAMP = pa.timestamp("ns", tz="+00:00")
B32 = pa.binary(32)
B20 = pa.binary(20)
BINARY = pa.binary()
TEXT = pa.string()
DECIMAL = pa.decimal128(38, 0)
BOOL = pa.bool_()


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _optional(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=True)


def list_of(kind: pa.DataType) -> pa.DataType:
    """A list whose items are never null, the child named ``item`` as in Amp's files."""
    return pa.list_(_required("item", kind))


ACCESS = pa.struct([_required("address", B20), _required("storage_keys", list_of(B32))])
AUTHORIZATION = pa.struct(
    [
        _required("chain_id", U64),
        _required("address", B20),
        _required("nonce", U64),
        _required("y_parity", BOOL),
        _required("r", B32),
        _required("s", B32),
    ]
)

BLOCKS = pa.schema(
    [
        _required("_block_num", U64),
        _required("block_num", U64),
        _required("timestamp", TIMESTAMP),
        _required("hash", B32),
        _required("parent_hash", B32),
        _required("ommers_hash", B32),
        _required("miner", B20),
        _required("state_root", B32),
        _required("transactions_root", B32),
        _required("receipt_root", B32),
        _required("logs_bloom", BINARY),
        _required("difficulty", DECIMAL),
        _optional("total_difficulty", DECIMAL),
        _required("gas_limit", U64),
        _required("gas_used", U64),
        _required("extra_data", BINARY),
        _required("mix_hash", B32),
        _required("nonce", U64),
        _optional("base_fee_per_gas", DECIMAL),
        _optional("withdrawals_root", B32),
        _optional("blob_gas_used", U64),
        _optional("excess_blob_gas", U64),
        _optional("parent_beacon_root", B32),
        _optional("requests_hash", B32),
    ]
)

TRANSACTIONS = pa.schema(
    [
        _required("_block_num", U64),
        _required("block_hash", B32),
        _required("block_num", U64),
        _required("timestamp", TIMESTAMP),
        _required("tx_index", U32),
        _required("tx_hash", B32),
        _optional("to", B20),
        _required("nonce", U64),
        _optional("gas_price", DECIMAL),
        _required("gas_limit", U64),
        _required("value", TEXT),
        _required("input", BINARY),
        _required("r", B32),
        _required("s", B32),
        _required("v_parity", BOOL),
        _optional("chain_id", U64),
        _required("gas_used", U64),
        _required("type", I32),
        _optional("max_fee_per_gas", DECIMAL),
        _optional("max_priority_fee_per_gas", DECIMAL),
        _optional("max_fee_per_blob_gas", DECIMAL),
        _required("from", B20),
        _required("status", BOOL),
        _optional("state_root", B32),
        _optional("access_list", list_of(ACCESS)),
        _optional("blob_versioned_hashes", list_of(B32)),
        _optional("authorization_list", list_of(AUTHORIZATION)),
    ]
)

LOGS = pa.schema(
    [
        _required("_block_num", U64),
        _required("block_hash", B32),
        _required("block_num", U64),
        _required("timestamp", TIMESTAMP),
        _required("tx_hash", B32),
        _required("tx_index", U32),
        _required("log_index", U32),
        _required("address", B20),
        _optional("topic0", B32),
        _optional("topic1", B32),
        _optional("topic2", B32),
        _optional("topic3", B32),
        _required("data", BINARY),
    ]
)

SCHEMAS: dict[str, pa.Schema] = dict(zip(TABLES, (BLOCKS, TRANSACTIONS, LOGS), strict=True))
