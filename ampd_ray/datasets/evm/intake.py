"""Blocks on their way into rows, in order: as text by the compiled path, or parsed and checked by the pure one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from ampd_ray.chain.links import BlockLinks
from ampd_ray.datasets.evm import native
from ampd_ray.datasets.evm.decode import Decoded, Decoding, joined
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts, BlockText
from ampd_ray.datasets.evm.schemas import SCHEMAS, TABLES

Look = Callable[[dict[str, pa.Table], Sequence[BlockAndReceipts] | None], bool]

_KEPT_BYTES = 4 << 20  # of text whose rows have not been looked at


class Intake:
    """The rows of ascending blocks, and the links between those.

    ``look`` sees all three tables of some blocks at a time, and the blocks. Where those came as text it is not told
    them, and may say False: then it sees the same rows once more, with the blocks.

    All methods raise DataFault and ValueOverflow as :class:`Decoding` does, and what ``look`` raises.
    """

    def __init__(self, network: str, tables: Sequence[str] = TABLES, look: Look | None = None) -> None:
        self._network = network
        self._tables = tables
        self._look = look
        self._done: list[Decoded] = []
        self._rows = native.Rows(tables if look is None else TABLES) if native.available else None
        self._taken = 0  # blocks in the rows
        self._texts: list[BlockText] = []  # of those blocks, if somebody is to look
        self._text_bytes = 0
        self._decoding: Decoding | None = None

    def take(self, text: BlockText) -> bool:
        """Take the next block if the compiled path is there and takes it; False leaves no trace."""
        if self._rows is None:
            return False
        if not self._rows.add(text.number, text.block, text.receipts):
            if not self._taken and text.nbytes > _KEPT_BYTES:
                self._rows.finish()  # gives back the room that it made for a large block
            return False
        self._end_decoding()
        self._taken += 1
        if self._look is not None:
            self._texts.append(text)
            self._text_bytes += text.nbytes
            if self._text_bytes >= _KEPT_BYTES:
                self._end_rows()
        return True

    def add(self, block: BlockAndReceipts) -> None:
        """Take the next block."""
        self._end_rows()
        if self._decoding is None:
            self._decoding = self._decoder()
        self._decoding.add(block)

    def finish(self) -> Decoded:
        """All rows; every column is one chunk."""
        self._end_rows()
        self._end_decoding()
        if len(self._done) == 1:
            return self._done[0]
        tables = {name: joined([each.tables[name] for each in self._done], SCHEMAS[name]) for name in self._tables}
        return Decoded(tables, BlockLinks.concat(each.links for each in self._done))

    def _decoder(self) -> Decoding:
        return Decoding(self._network, self._tables, self._look)

    def _end_decoding(self) -> None:
        if self._decoding is not None:
            self._done.append(self._decoding.finish())
            self._decoding = None

    def _end_rows(self) -> None:
        if self._rows is None or not self._taken:
            return
        tables, links = self._rows.finish()
        if self._look is None or self._look(tables, None):
            self._done.append(Decoded({name: tables[name] for name in self._tables}, links))
        else:
            again = self._decoder()
            for text in self._texts:
                again.add(_parsed(text))
            self._done.append(again.finish())
        self._taken, self._texts, self._text_bytes = 0, [], 0


def _parsed(text: BlockText) -> BlockAndReceipts:
    """A block that the compiled path has checked: its receipts are there, and in order."""
    block, receipts = BLOCK.decode(text.block), RECEIPTS.decode(text.receipts) if text.receipts is not None else []
    assert block is not None, "null is never taken"
    return BlockAndReceipts(block, [receipt for receipt in receipts or () if receipt is not None])
