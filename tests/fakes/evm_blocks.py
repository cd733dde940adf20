"""Made-up blocks of any transaction type, in any spelling that real nodes use: the same seed, the same blocks.

They keep every rule of data.md 2.3 (numbers, hashes, order, bloom, gas), so that ``strict`` passes them; only their
hashes and roots are of nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from ampd_ray.datasets.evm.hashing import bloom_of

Json = dict[str, Any]
Spell = Callable[[int], str | int]

SPELLINGS: tuple[Spell, ...] = (hex, "0x{:064x}".format, "0X{:X}".format, int)
"""Of quantities: plain, padded, upper case, JSON integers."""

_JUNK: tuple[Any, ...] = (None, "", "0x", "0xzz", "latest", [], {}, {"of": ["another", "form"]}, True, 0.5)
_FEES = ("gasPrice", "maxFeePerGas", "maxPriorityFeePerGas")
_LENIENT = ("to", "value", "input", "nonce", "gas", "chainId", "accessList", "v", "r", "s", *_FEES)


class BlockMaker:
    """Makes answers whose transactions are all of type ``kind``; ``spell`` spells their quantities."""

    def __init__(self, seed: int, kind: int, spell: Spell = hex) -> None:
        self._random = Random(seed)
        self._kind = kind
        self._spell = spell

    def block(self, number: int) -> Json:
        """``{"block", "receipts"}`` with one to five transactions."""
        transactions = [self._transaction() for _ in range(self._random.randint(1, 5))]
        block_hash = self._bytes(32)
        place = {"blockNumber": self._spell(number), "blockHash": block_hash}
        receipts: list[Json] = []
        logs = gas = 0
        old = self._kind == 0 and self._maybe()  # before Byzantium
        for index, tx in enumerate(transactions):
            tx.update(place, transactionIndex=self._spell(index))
            own = place | {"transactionHash": tx["hash"], "transactionIndex": self._spell(index)}
            gas += self._random.randrange(10**6)
            entries = [self._log(own, logs + n) for n in range(self._random.randint(0, 3))]
            logs += len(entries)
            receipts.append(own | self._receipt(old, gas) | {"logs": entries})
        header = self._header(number, gas, _bloom(receipts)) | {"hash": block_hash, "transactions": transactions}
        return {"block": header, "receipts": receipts}

    # -- values -------------------------------------------------------------------------------------------------

    def _maybe(self) -> bool:
        return self._random.random() < 0.5

    def _bytes(self, size: int) -> str:
        return "0x" + self._random.randbytes(size).hex()

    def _number(self, bits: int) -> str | int:
        """Any number of up to ``bits`` bits; its borders often."""
        borders = (0, 1, (1 << bits) - 1)
        return self._spell(self._random.choice((*borders, self._random.getrandbits(self._random.randint(1, bits)))))

    def _some(self, **fields: Any) -> Json:
        """Each field as it is, null, or not there."""
        kept = {name: value for name, value in fields.items() if self._maybe()}
        return {name: value if self._maybe() else None for name, value in kept.items()}

    # -- objects ------------------------------------------------------------------------------------------------

    def _header(self, number: int, gas: int, bloom: str) -> Json:
        hashes = ("parentHash", "sha3Uncles", "stateRoot", "transactionsRoot", "receiptsRoot")
        optional = ("mixHash", "withdrawalsRoot", "parentBeaconBlockRoot", "requestsHash")
        numbers = {"totalDifficulty": 126, "baseFeePerGas": 126, "blobGasUsed": 64, "excessBlobGas": 64, "nonce": 64}
        return {
            **{name: self._bytes(32) for name in hashes},
            **self._some(**{name: self._bytes(32) for name in optional}),
            **self._some(**{name: self._number(bits) for name, bits in numbers.items()}),
            **self._some(author=self._bytes(20), size="0x220", uncles=[], sealFields=[]),
            "number": self._spell(number),
            "timestamp": self._number(32),
            "miner": self._bytes(20),
            "logsBloom": bloom,
            "difficulty": self._number(126),
            "gasLimit": self._number(64),
            "gasUsed": self._spell(gas),
            "extraData": self._bytes(self._random.randrange(98)),
        }

    def _transaction(self) -> Json:
        fields = {
            "hash": self._bytes(32),
            "from": self._bytes(20),
            "to": self._bytes(20),
            "nonce": self._number(64),
            "gas": self._number(64),
            "value": self._number(256),
            "input": self._bytes(self._random.choice((0, 4, 36, 1000))),
            "r": self._number(256),
            "s": self._number(256),
            **self._typed(),
            **self._some(creates=None, condition=None, publicKey=self._bytes(64), standardV="0x0"),
        }
        if self._kind in (0, 1, 2) and self._maybe():
            fields["to"] = None
        return fields

    def _typed(self) -> Json:
        """What its type adds, and how it is signed."""
        kind, chain_id, parity = self._kind, self._random.getrandbits(63), self._random.getrandbits(1)
        if kind == 0:
            v = self._random.choice((27 + parity, 35 + 2 * chain_id + parity))
            named = {} if self._maybe() else {"type": self._spell(0)}
            return named | {"v": self._spell(v), "gasPrice": self._number(126)} | self._some(effectiveGasPrice="0x1")
        fields: Json = {"type": self._spell(kind), "chainId": self._spell(chain_id), "gasPrice": self._number(126)}
        if kind != 1:
            fields |= {"maxFeePerGas": self._number(126), "maxPriorityFeePerGas": self._number(126)}
        if kind > 4:
            return fields | {name: self._random.choice(_JUNK) for name in _LENIENT if self._random.random() < 0.2}
        signatures = ({"yParity": parity}, {"v": parity}, {"v": 27 + parity}, {"yParity": parity, "v": parity})
        fields |= {name: self._spell(value) for name, value in self._random.choice(signatures).items()}
        fields["accessList"] = self._random.choice((None, [], [self._access() for _ in range(3)]))
        if kind == 3:
            hashes = [self._bytes(32) for _ in range(self._random.randint(1, 6))]
            fields |= {"maxFeePerBlobGas": self._number(126), "blobVersionedHashes": hashes}
        if kind == 4:
            fields["authorizationList"] = [self._authorization() for _ in range(self._random.randint(1, 4))]
        return fields

    def _access(self) -> Json:
        keys = [self._bytes(32) for _ in range(self._random.randrange(4))]
        return {"address": self._bytes(20), "storageKeys": keys}

    def _authorization(self) -> Json:
        numbers = {"chainId": self._number(256), "nonce": self._number(64), "r": self._number(256)}
        signed = {self._random.choice(("yParity", "v")): self._number(1), "s": self._number(256)}
        return numbers | signed | {"address": self._bytes(20)}

    def _receipt(self, old: bool, gas: int) -> Json:
        outcome: Json = {"status": self._spell(self._random.getrandbits(1))}
        if old:
            outcome = {"root": self._bytes(32)} | ({"status": None} if self._maybe() else {})
        elif self._maybe():
            outcome["root"] = self._bytes(32)
        extra = self._some(type="0x0", effectiveGasPrice="0x1", contractAddress=None, l1Fee="0x1", logsBloom="0x")
        return outcome | extra | {"cumulativeGasUsed": self._spell(gas)}

    def _log(self, place: Json, index: int) -> Json:
        log = place | {
            "address": self._bytes(20),
            "topics": [self._bytes(32) for _ in range(self._random.randrange(5))],
            "data": self._bytes(self._random.choice((0, 32, 500))),
            "logIndex": self._spell(index),
        }
        return log | self._some(removed=False, transactionLogIndex="0x0", type="mined")


def _bloom(receipts: list[Json]) -> str:
    logs = [log for receipt in receipts for log in receipt["logs"]]
    entries = [entry for log in logs for entry in (log["address"], *log["topics"])]
    return "0x" + bloom_of(bytes.fromhex(entry[2:]) for entry in entries).hex()
