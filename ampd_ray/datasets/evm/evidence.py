"""All that is recomputed of a batch of blocks, for a verdict on each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ampd_ray.datasets.evm.consensus import header_bytes
from ampd_ray.datasets.evm.copies import copy_faults
from ampd_ray.datasets.evm.envelopes import envelopes
from ampd_ray.datasets.evm.gaps import may_lack_state_roots
from ampd_ray.datasets.evm.hashing import keccak256
from ampd_ray.datasets.evm.inline import Inline
from ampd_ray.datasets.evm.kinds import LEGACY, SET_CODE
from ampd_ray.datasets.evm.quirks import STATE_SYNCED, state_sync_hash
from ampd_ray.datasets.evm.receipts import log_faults, receipts, sent_outcomes, stored_outcomes
from ampd_ray.datasets.evm.rows import Batch

_NOBODY = bytes(20)


class Evidence:
    """One batch: its columns as Python has them, what they encode to, and faults by position of the block.

    Transactions are told by row in the batch. ``chain_id`` says what the chain's blocks may have.
    """

    def __init__(self, batch: Batch, inline: Inline, chain_id: int | None) -> None:
        self._batch = batch
        self._chain_id = chain_id
        self.inline = inline
        self.numbers: list[int] = batch.headers.integers("block_num").tolist()
        self.hashes = batch.headers.fixed("hash")
        self.transactions_roots = batch.headers.fixed("transactions_root")
        self.receipts_roots = batch.headers.fixed("receipt_root")
        self.kinds: list[int] = batch.transactions.integers("type").tolist()
        self.tx_hashes = batch.transactions.fixed("tx_hash")
        self._starts: list[int] = batch.tx_starts.tolist()
        self._synthetic = self._state_syncs() if chain_id in STATE_SYNCED else set[int]()
        self.headers = header_bytes(batch.headers)
        self.envelopes = envelopes(batch.transactions, inline.chain_ids)
        for row, envelope in inline.envelopes.items():
            self.envelopes.values[row] = envelope
        self.receipts = receipts(batch, stored_outcomes(batch.transactions), inline.extras)
        self.transaction_faults = self._by_block(
            self._covered(inline.faults | self.envelopes.faults) | self._misplaced()
        )
        self.receipt_faults = self._by_block(self._covered(self.receipts.faults)) | self._log_faults()
        self.copy_faults = copy_faults(batch)

    def rows(self, block: int) -> list[int]:
        """The transactions that a block's roots cover: all but a synthetic one."""
        rows = range(self._starts[block], self._starts[block + 1])
        return [row for row in rows if row not in self._synthetic] if self._synthetic else list(rows)

    @cached_property
    def signatures(self) -> list[tuple[bytes, bytes, int, bytes]]:
        """r, s, parity and the sender of each transaction."""
        transactions = self._batch.transactions
        parities = transactions.integers("v_parity").tolist()
        columns = transactions.fixed("r"), transactions.fixed("s"), parities, transactions.fixed("from")
        return list(zip(*columns, strict=True))

    def receipts_as_sent(self, block: int) -> list[bytes]:
        """The receipts of a block with the state roots that the node sent."""
        only = self._batch.only(block)
        start, roots = self._starts[block], self.inline.roots(block)
        if len(roots) != len(only.transactions):
            return []
        extras = {row - start: extra for row, extra in self.inline.extras.items()}
        encoded = receipts(only, sent_outcomes(only.transactions, roots), extras)
        return [encoded.values[row - start] for row in self.rows(block)]

    def may_lack_state_roots(self, block: int) -> bool:
        """Whether its receipts may begin with state roots that are not stored."""
        only = self._batch.only(block)
        seconds = int(only.headers.seconds()[0])
        return may_lack_state_roots(self.numbers[block], seconds, only.transactions, self._chain_id)

    def lacking_chain_ids(self, block: int) -> set[int]:
        """The transactions that do not hash to their hash, if authorizations whose chain id is 0 explain them all.

        That stands for any chain, or for one whose id is too long for its column.
        """
        rows = self.rows(block)
        wrong = {row for row in rows if keccak256(self.envelopes.values[row]) != self.tx_hashes[row]}
        lists = self._batch.transactions.array("authorization_list")
        explained = {
            row
            for row in wrong
            if self.kinds[row] == SET_CODE
            and row not in self.inline.chain_ids
            and any(entry["chain_id"] == 0 for entry in lists[row].as_py() or ())
        }
        return wrong if wrong == explained else set()

    def _state_syncs(self) -> set[int]:
        """Bor's synthetic transactions, which no root covers."""
        transactions = self._batch.transactions
        senders, recipients = transactions.matrix("from"), transactions.matrix("to")
        nobodys = ~senders.any(axis=1) & ~recipients.any(axis=1) & transactions.valid("to")
        nobodys &= transactions.integers("type") == LEGACY
        blocks = self._batch.block_of_tx
        return {
            row
            for row in np.flatnonzero(nobodys).tolist()
            if self.tx_hashes[row] == state_sync_hash(self.numbers[blocks[row]], self.hashes[blocks[row]])
        }

    def _misplaced(self) -> dict[int, str]:
        batch = self._batch
        places = np.arange(len(batch.transactions)) - batch.tx_starts[batch.block_of_tx]
        wrong = batch.transactions.integers("tx_index") != places
        return dict.fromkeys(np.flatnonzero(wrong).tolist(), "tx_index is not its position")

    def _covered(self, faults: Mapping[int, str]) -> dict[int, str]:
        """The faults in what the roots cover."""
        return {row: fault for row, fault in faults.items() if row not in self._synthetic}

    def _by_block(self, faults: Mapping[int, str]) -> dict[int, str]:
        """The first fault of each block, of transactions."""
        named = {row: f"transaction {row - self._starts[self._batch.block_of_tx[row]]}" for row in faults}
        return _first(faults, named, self._batch.block_of_tx)

    def _log_faults(self) -> dict[int, str]:
        faults = log_faults(self._batch).faults
        indexes = self._batch.logs.integers("log_index")
        return _first(faults, {row: f"log {indexes[row]}" for row in faults}, self._batch.block_of_log)


def _first(faults: Mapping[int, str], named: Mapping[int, str], blocks: npt.NDArray[Any]) -> dict[int, str]:
    found: dict[int, str] = {}
    for row in sorted(faults):
        found.setdefault(int(blocks[row]), f"{named[row]}: {faults[row]}")
    return found
