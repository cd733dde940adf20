"""The blocks of the load server: real ones, each served under many numbers.

Numbers, hashes of blocks and transactions, indexed topics, parents and times are written anew for each number, with
the bloom of those topics, so that the blocks make one chain, pass the strict checks, and repeat from block to block
about what real ones do. Roots stay the originals', so that they do not verify.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ampd_ray.datasets.evm.hashing import keccak256

MIXES: Final[Mapping[str, Sequence[int]]] = {
    "mainnet": (18500000, 19433902, 19433903, 18500000, 19433902, 15573637, 18500000, 19433902, 19433903),
    "heavy": (15573637,),
    "light": (483920, 1000000, 1755635, 46147),
    "tiny": (46147, 200000, 1755634, 2463000),
}
"""The blocks of the set ``rpc-mainnet`` that make a cycle."""

KEPT_BYTES: Final = 6e9  # of blocks that stay serialised
FIRST_SECONDS: Final = 1_600_000_000
SECS_A_BLOCK: Final = 12


_HASH, _PARENT, _NUMBER, _TIME, _OF_BLOCK, _BLOOM = (bytes([mark]) for mark in range(1, 7))  # what JSON text never has
_DIGITS: Final = 8  # of a transaction's hash or a topic: the number of its block


def block_hash(number: int) -> str:
    """The hash that a number has here."""
    return "0x" + hashlib.sha256(b"load %d" % number).hexdigest()


@dataclass(frozen=True)
class Served:
    """One block as JSON: with full transactions, with their hashes, its receipts, its logs without the brackets."""

    block: bytes
    thin: bytes
    receipts: bytes
    logs: bytes

    @property
    def nbytes(self) -> int:
        """Of all of it."""
        return len(self.block) + len(self.thin) + len(self.receipts) + len(self.logs)


class Template:
    """One real block and its receipts, as a node answered them."""

    def __init__(self, block: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> None:
        logs = [log for receipt in receipts for log in receipt["logs"]]
        self.counts = len(receipts), len(logs)
        self.hashes = {receipt["transactionHash"][2 + _DIGITS :]: i for i, receipt in enumerate(receipts)}
        marks = [(receipt["transactionHash"][: 2 + _DIGITS], b"0x" + _OF_BLOCK) for receipt in receipts]
        marks = [(f'"{old}', b'"' + new) for old, new in marks]
        topics = {topic for log in logs for topic in log["topics"][1:]}
        marks += [(f'"{topic}"', b'"0x' + _OF_BLOCK + topic[2 + _DIGITS :].encode() + b'"') for topic in topics]
        self._topics = [topic[2 + _DIGITS :] for topic in topics]
        self._bloom = bloom(bytes.fromhex(each[2:]) for log in logs for each in (log["address"], *log["topics"][:1]))
        marks += [(block["hash"], _HASH), (f'"blockNumber":"{block["number"]}"', b'"blockNumber":"%s"' % _NUMBER)]
        of_header = [
            (f'"number":"{block["number"]}"', b'"number":"%s"' % _NUMBER),
            (block["parentHash"], _PARENT),
            (f'"timestamp":"{block["timestamp"]}"', b'"timestamp":"%s"' % _TIME),
            (f'"logsBloom":"{block["logsBloom"]}"', b'"logsBloom":"%s"' % _BLOOM),
        ]
        thin = {**block, "transactions": [transaction["hash"] for transaction in block["transactions"]]}
        self._block, self._thin = _marked(block, marks + of_header), _marked(thin, marks + of_header)
        self._receipts = [_marked(receipt, marks) for receipt in receipts]
        self._logs = _marked(logs, marks)[1:-1]

    @property
    def json_bytes(self) -> int:
        """Of the block and its receipts, nearly."""
        served = self.at(1)
        return len(served.block) + len(served.receipts)

    def at(self, number: int) -> Served:
        """The same as block ``number``."""
        receipts = b"[" + b",".join(self._receipts) + b"]"
        topics = bloom(bytes.fromhex(f"{number:0{_DIGITS}x}{rest}") for rest in self._topics)
        of_header = b"0x%0512x" % (self._bloom | topics)
        parts = (self._block.replace(_BLOOM, of_header), self._thin.replace(_BLOOM, of_header), receipts, self._logs)
        return Served(*(_written(part, number) for part in parts))

    def receipt(self, number: int, index: int) -> bytes:
        """One receipt of block ``number``."""
        return _written(self._receipts[index], number)


def bloom(entries: Iterable[bytes]) -> int:
    """The bloom filter of addresses and topics (yellow paper, 4.4.1)."""
    bits = 0
    for entry in entries:
        digest = keccak256(entry)
        for at in (0, 2, 4):
            bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") % 2048)
    return bits


def _marked(value: Any, marks: Sequence[tuple[str, bytes]]) -> bytes:
    """``value`` as JSON, with marks in place of what depends on the block's number."""
    text = json.dumps(value, separators=(",", ":")).encode()
    for old, mark in marks:
        text = text.replace(old.encode(), mark)
    return text


def _written(text: bytes, number: int) -> bytes:
    text = text.replace(_OF_BLOCK, b"%0*x" % (_DIGITS, number)).replace(_NUMBER, b"0x%x" % number)
    text = text.replace(_HASH, block_hash(number).encode()).replace(_PARENT, block_hash(number - 1).encode())
    return text.replace(_TIME, b"0x%x" % (FIRST_SECONDS + SECS_A_BLOCK * number))


class Chain:
    """``total`` blocks of a mix, of which the first ``length`` are there so far: all, if nothing else is said.

    Those that are asked for first, because they have yet to appear or are the lowest, stay serialised, so that serving
    them is one copy.
    """

    def __init__(self, templates: Sequence[Template], total: int, length: int | None = None) -> None:
        self.total = total
        self.length = total if length is None else length
        self._templates = templates
        self._first_kept = length or 0
        self._kept: list[Served] = []
        nbytes = 0
        while self._first_kept + len(self._kept) < total and nbytes < KEPT_BYTES:
            self._kept.append(self._made(self._first_kept + len(self._kept)))
            nbytes += self._kept[-1].nbytes
        self._numbers = {block_hash(number): number for number in range(total)}

    def at(self, number: int) -> Served | None:
        """Block ``number``, if the chain has it."""
        if not 0 <= number < self.length:
            return None
        at = number - self._first_kept
        return self._kept[at] if 0 <= at < len(self._kept) else self._made(number)

    def number_of(self, hash_: str) -> int:
        """The number of a block hash, be it of a block to come; -1 if the chain has none of that."""
        return self._numbers.get(hash_, -1)

    def receipt(self, tx_hash: str) -> bytes | None:
        """The receipt of a transaction, if the chain has it."""
        number = int(tx_hash[2 : 2 + _DIGITS], 16)
        template = self._templates[number % len(self._templates)]
        index = template.hashes.get(tx_hash[2 + _DIGITS :])
        return None if index is None or number >= self.length else template.receipt(number, index)

    def _made(self, number: int) -> Served:
        return self._templates[number % len(self._templates)].at(number)


def templates(chain_data: Path, mix: str) -> list[Template]:
    """The cycle of a mix."""
    found: dict[int, Template] = {}
    with gzip.open(chain_data / "rpc-mainnet" / "blocks.jsonl.gz", "rt") as lines:
        for entry in map(json.loads, lines):
            if (number := int(entry["block"]["number"], 16)) in MIXES[mix]:
                found[number] = Template(entry["block"], entry["receipts"])
    return [found[number] for number in MIXES[mix]]


def means(cycle: Sequence[Template]) -> dict[str, float]:
    """Transactions, logs and kB of JSON (block and receipts) of a block, on average."""
    return {
        "txs": sum(each.counts[0] for each in cycle) / len(cycle),
        "logs": sum(each.counts[1] for each in cycle) / len(cycle),
        "json_kb": sum(each.json_bytes for each in cycle) / len(cycle) / 1000,
    }
