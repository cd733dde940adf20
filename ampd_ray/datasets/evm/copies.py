"""Columns that only repeat what another row says: no root covers them, a comparison does (data.md 1.2, 9.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ampd_ray.datasets.evm.rlp_columns import Bools
from ampd_ray.datasets.evm.rows import NANOSECONDS, Batch, Rows


def copy_faults(batch: Batch) -> dict[int, str]:
    """By position of the block: a sentence on its first row that repeats something wrongly."""
    found: dict[int, str] = {}
    headers = batch.headers
    _note(found, np.arange(len(headers)), headers.nanoseconds() % NANOSECONDS != 0, "blocks", "timestamp")
    _note(found, np.arange(len(headers)), _renumbered(headers), "blocks", "_block_num")
    for table, rows, blocks in (
        ("transactions", batch.transactions, batch.block_of_tx),
        ("logs", batch.logs, batch.block_of_log),
    ):
        _note(found, blocks, _renumbered(rows), table, "_block_num")
        differs = (rows.matrix("block_hash") != headers.matrix("hash")[blocks]).any(axis=1)
        _note(found, blocks, differs, table, "block_hash")
        _note(found, blocks, rows.nanoseconds() != headers.nanoseconds()[blocks], table, "timestamp")
    owners = batch.tx_of_log
    owned = np.flatnonzero(owners >= 0)
    hashes = batch.transactions.matrix("tx_hash")[owners[owned]]
    strangers = (batch.logs.matrix("tx_hash")[owned] != hashes).any(axis=1)
    _note(found, batch.block_of_log[owned], strangers, "logs", "tx_hash")
    return found


def _renumbered(rows: Rows) -> Bools:
    return np.asarray(rows.integers("_block_num") != rows.integers("block_num"))


def _note(found: dict[int, str], blocks: npt.NDArray[np.int64], wrong: Bools, table: str, column: str) -> None:
    for block in blocks[wrong].tolist():
        found.setdefault(block, f"{column} of a row of {table} is not what it repeats")
