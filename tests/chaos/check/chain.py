"""I4: rows equal an independent dump from the node, whose hashes and roots verify."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tests.chaos.check.files import File
from tests.consensus import rebuild
from tests.fakes.http import fetch
from tests.reference import Row, comparable, reference_rows

BATCH = 100  # blocks a request
REMEMBERED = 3000  # blocks, more than a file has


class Dump:
    """Blocks as the node gives them, decoded plainly, each verified when it is fetched."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._blocks: dict[int, dict[str, list[Row]]] = {}
        self._verified: set[bytes] = set()

    def forget(self) -> None:
        """The chain may have changed."""
        self._blocks.clear()

    def distrust(self) -> None:
        """Verify all blocks anew."""
        self._verified.clear()

    def compare(self, file: File, table: pa.Table) -> Iterator[str]:
        """What ``file``, whose content is ``table``, says otherwise than the node."""
        while len(self._blocks) > REMEMBERED:
            del self._blocks[next(iter(self._blocks))]
        yield from self._fetch([number for number in file.blocks if number not in self._blocks])
        expected = [row for number in file.blocks for row in self._blocks[number][file.table]]
        if (found := comparable(table)) != expected:
            wrong = next((a["_block_num"] for a, b in zip(found, expected, strict=False) if a != b), "?")
            yield f"I4 {file.path}: {len(found)} rows, the node has {len(expected)}; block {wrong} differs"

    def _fetch(self, numbers: list[int]) -> Iterator[str]:
        for start in range(0, len(numbers), BATCH):
            some = numbers[start : start + BATCH]
            calls = [(method, number) for number in some for method in ("eth_getBlockByNumber", "eth_getBlockReceipts")]
            answers = self._ask(calls)
            for index, number in enumerate(some):
                rows = reference_rows([{"block": answers[2 * index], "receipts": answers[2 * index + 1]}])
                yield from self._verify(number, rows)
                self._blocks[number] = rows

    def _ask(self, calls: list[tuple[str, int]]) -> list[Any]:
        batch = [
            {
                "jsonrpc": "2.0",
                "id": at,
                "method": method,
                "params": [hex(number), *([True] if "Number" in method else [])],
            }
            for at, (method, number) in enumerate(calls)
        ]
        by_id = {answer["id"]: answer["result"] for answer in fetch(self._url, batch)}
        return [by_id[at] for at in range(len(calls))]

    def _verify(self, number: int, rows: dict[str, list[Row]]) -> Iterator[str]:
        (block,) = rows["blocks"]
        if block["hash"] in self._verified:
            return
        built = rebuild(block, rows["transactions"], rows["logs"])
        if built.block_hash != block["hash"] or block["block_num"] != number:
            yield f"I4 block {number}: its rows hash to something else"
        if (built.transactions_root, built.receipts_root) != (block["transactions_root"], block["receipt_root"]):
            yield f"I4 block {number}: its roots are not those of its rows"
        self._verified.add(block["hash"])
