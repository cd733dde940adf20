"""The JSON of a node, typed: just the fields that the three tables and their checks need.

Every field may be absent (nodes differ), so absence is ``None`` and is judged where the row is built, with the
block and transaction named. Quantities are hex text as a rule, JSON numbers from a few nodes. The structs are not
tracked by the garbage collector: they form trees, and a block has thousands of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise, repeat
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ampd_ray.errors import DataFault

T = TypeVar("T")

# No number of a chain is that long, and Python refuses to print what is much longer.
Quantity = Annotated[str, msgspec.Meta(max_length=1024)] | int | None

KNOWN_TYPES = range(5)
"""Of transactions: those that the tables know in full; all others are read leniently (data.md 1.4.1)."""

_is_quantity = re.compile(r"0[xX][0-9a-fA-F]+").fullmatch


class RpcAccess(msgspec.Struct, gc=False, rename="camel"):
    """An access list entry (EIP-2930)."""

    address: str | None = None
    storage_keys: list[str] | None = None


class RpcAuthorization(msgspec.Struct, gc=False, rename="camel"):
    """An authorization list entry (EIP-7702); ``v`` is an old spelling of ``y_parity``."""

    chain_id: Quantity = None
    address: str | None = None
    nonce: Quantity = None
    y_parity: Quantity = None
    v: Quantity = None
    r: Quantity = None
    s: Quantity = None


class RpcTransaction(msgspec.Struct, gc=False, rename="camel"):
    """A transaction object of ``eth_getBlockByNumber(n, true)``.

    The last three fields are those of OP deposits (type 0x7e); no table stores them, inline verification uses them.
    """

    hash: str | None = None
    type: Quantity = None
    sender: str | None = msgspec.field(default=None, name="from")
    to: str | None = None
    nonce: Quantity = None
    gas: Quantity = None
    gas_price: Quantity = None
    max_fee_per_gas: Quantity = None
    max_priority_fee_per_gas: Quantity = None
    max_fee_per_blob_gas: Quantity = None
    value: Quantity = None
    input: str | None = None
    chain_id: Quantity = None
    v: Quantity = None
    y_parity: Quantity = None
    r: Quantity = None
    s: Quantity = None
    block_hash: str | None = None
    transaction_index: Quantity = None
    access_list: list[RpcAccess] | UnsetType | None = UNSET  # null is an empty list, absence is not
    blob_versioned_hashes: list[str] | None = None
    authorization_list: list[RpcAuthorization] | None = None
    source_hash: str | None = None
    mint: Quantity = None
    is_system_tx: bool | None = None


class RpcLog(msgspec.Struct, gc=False, rename="camel"):
    """A log object of a receipt."""

    address: str | None = None
    topics: list[str] | None = None
    data: str | None = None
    block_number: Quantity = None
    block_hash: str | None = None
    transaction_hash: str | None = None
    transaction_index: Quantity = None
    log_index: Quantity = None
    removed: bool | None = None


class RpcReceipt(msgspec.Struct, gc=False, rename="camel"):
    """A receipt of ``eth_getBlockReceipts`` or ``eth_getTransactionReceipt``; the deposit fields are the OP stack's."""

    transaction_hash: str | None = None
    transaction_index: Quantity = None
    block_hash: str | None = None
    cumulative_gas_used: Quantity = None
    status: Quantity = None
    root: str | None = None
    logs: list[RpcLog] | None = None
    deposit_nonce: Quantity = None
    deposit_receipt_version: Quantity = None


class RpcHead(msgspec.Struct, gc=False, rename="camel"):
    """The few header fields that following the head needs; parses ``eth_getBlockByNumber(tag, false)`` and headers."""

    number: Quantity = None
    hash: str | None = None
    parent_hash: str | None = None
    timestamp: Quantity = None


class RpcHeader(RpcHead, gc=False, rename="camel"):
    """A block object without its transactions."""

    sha3_uncles: str | None = None
    miner: str | None = None
    state_root: str | None = None
    transactions_root: str | None = None
    receipts_root: str | None = None
    logs_bloom: str | None = None
    difficulty: Quantity = None
    total_difficulty: Quantity = None
    gas_limit: Quantity = None
    gas_used: Quantity = None
    extra_data: str | None = None
    mix_hash: str | None = None
    nonce: Quantity = None
    base_fee_per_gas: Quantity = None
    withdrawals_root: str | None = None
    blob_gas_used: Quantity = None
    excess_blob_gas: Quantity = None
    parent_beacon_block_root: str | None = None
    requests_hash: str | None = None


class RpcBlock(RpcHeader, gc=False, rename="camel"):
    """A block object with full transactions; a list of hashes parses too, and is refused where it is used."""

    transactions: list[RpcTransaction | str] | None = None


class RpcGlance(msgspec.Struct, gc=False, rename="camel"):
    """What has to be known of a block before its receipts are asked for; nothing below it is looked at."""

    number: Quantity = None
    hash: str | None = None
    transactions_root: str | None = None
    receipts_root: str | None = None
    transactions: list[msgspec.Raw] | None = None

    @property
    def hashes_only(self) -> bool:
        """Whether the node sent hashes in place of transactions."""
        return any(memoryview(tx)[:1].tobytes() == b'"' for tx in (self.transactions or ())[:1])


@dataclass(frozen=True, slots=True)
class BlockText:
    """A block as it was answered, neither parsed nor checked; ``receipts`` are None where none were asked for."""

    number: int
    block: msgspec.Raw
    receipts: msgspec.Raw | None = None

    @property
    def nbytes(self) -> int:
        """Of both answers."""
        return len(memoryview(self.block)) + (0 if self.receipts is None else len(memoryview(self.receipts)))


Take: TypeAlias = Callable[[BlockText], bool]
"""Takes a block as text, or declines it."""


class BlockAndReceipts(msgspec.Struct, gc=False):
    """One fetched block. ``receipts`` are in the order of its transactions; empty where none were needed."""

    block: RpcBlock
    receipts: list[RpcReceipt]

    @property
    def transactions(self) -> list[RpcTransaction]:
        """The full transactions. Raises DataFault if the node sent hashes only, or none at all."""
        return full_transactions(self.block)


class _Body(msgspec.Struct, gc=False):
    """The transactions of a block object, not looked at yet."""

    transactions: list[msgspec.Raw] | None = None


class BlockDecoder:
    """Decodes a block object, or null; and transactions of unknown types even where a field is of another form."""

    def __init__(self) -> None:
        self._block: msgspec.json.Decoder[RpcBlock | None] = msgspec.json.Decoder(RpcBlock | None)
        self._header, self._body = msgspec.json.Decoder(RpcHeader), msgspec.json.Decoder(_Body)
        self._transaction = msgspec.json.Decoder(RpcTransaction)
        self._object = msgspec.json.Decoder(dict[str, msgspec.Raw])

    def decode(self, raw: msgspec.Raw | bytes | str) -> RpcBlock | None:
        """The block. Raises ``msgspec.DecodeError``, which names the transaction's index if it is about one."""
        try:
            return self._block.decode(raw)
        except msgspec.ValidationError:
            header, body = self._header.decode(raw), self._body.decode(raw)
            if body.transactions is None:
                raise
        transactions = [self._any(transaction, index) for index, transaction in enumerate(body.transactions)]
        return RpcBlock(**msgspec.structs.asdict(header), transactions=transactions)

    def _any(self, raw: msgspec.Raw, index: int) -> RpcTransaction | str:
        try:
            return self._transaction.decode(raw)
        except msgspec.ValidationError as error:
            transaction = self._loosely(raw)
            if transaction is None:
                raise msgspec.ValidationError(f"transaction {index}: {error}") from None
            return transaction

    def _loosely(self, raw: msgspec.Raw) -> RpcTransaction | None:
        """A transaction of unknown type without the fields that are of another form; None for any other.

        A quantity that is too long is no other form: to leave it out would be to make a value up.
        """
        try:
            given = self._object.decode(raw)
            kind = quantity(msgspec.json.decode(given["type"], type=Quantity))
        except (KeyError, ValueError):
            return None
        if kind in KNOWN_TYPES:
            return None
        read: dict[str, object] = {}
        for field in msgspec.structs.fields(RpcTransaction):
            if field.encode_name in given:
                try:
                    read[field.name] = msgspec.json.decode(given[field.encode_name], type=field.type)
                except msgspec.ValidationError:
                    if field.type == Quantity and bytes(given[field.encode_name]).startswith(b'"'):
                        return None
        return RpcTransaction(**read)  # type: ignore[arg-type]


BLOCK = BlockDecoder()
GLANCE: msgspec.json.Decoder[RpcGlance | None] = msgspec.json.Decoder(RpcGlance | None)
HEAD: msgspec.json.Decoder[RpcHead | None] = msgspec.json.Decoder(RpcHead | None)
RECEIPT: msgspec.json.Decoder[RpcReceipt | None] = msgspec.json.Decoder(RpcReceipt | None)
RECEIPTS: msgspec.json.Decoder[list[RpcReceipt | None] | None] = msgspec.json.Decoder(list[RpcReceipt | None] | None)


def full_transactions(block: RpcBlock) -> list[RpcTransaction]:
    """The transactions of ``block`` as objects. Raises DataFault if they are missing or only hashes."""
    if block.transactions is None:
        raise DataFault(
            f"block {block.number}: no list of transactions", block=quantity(block.number), field="transactions"
        )
    full = [tx for tx in block.transactions if not isinstance(tx, str)]
    if len(full) != len(block.transactions):
        raise DataFault(
            f"block {block.number}: the node sent transaction hashes instead of transactions; "
            "ask with eth_getBlockByNumber(n, true)",
            block=quantity(block.number),
            field="transactions",
        )
    return full


def quantity(value: Quantity) -> int:
    """The number that ``value`` spells: 0x hex, padded or not, any case, or a JSON number. Raises ValueError."""
    if isinstance(value, str) and _is_quantity(value):
        return int(value, 16)
    if isinstance(value, int) and value >= 0:
        return value
    raise ValueError(f"not a quantity: {str(value)[:80]!r}")


def counting(count: int) -> list[Quantity]:
    """The numbers from 0 to ``count`` - 1 as nodes spell them."""
    return _hexes(count.bit_length())[:count]


@cache
def _hexes(bits: int) -> list[Quantity]:
    return [hex(number) for number in range(1 << bits)]


def repeated(values: Iterable[T], times: Iterable[int]) -> list[T]:
    """Each of ``values`` so many times, as a list: what the rows below a header or a receipt should say of it."""
    return list(chain.from_iterable(map(repeat, values, times)))


def in_order(receipts: list[RpcReceipt]) -> list[RpcReceipt]:
    """``receipts`` by ``transactionIndex`` (data.md 2.2); as they came if an index is missing or unreadable."""
    spelled = [receipt.transaction_index for receipt in receipts]
    if spelled == counting(len(spelled)):
        return receipts
    try:
        positions = [quantity(position) for position in spelled]
    except ValueError:
        return receipts
    if all(a < b for a, b in pairwise(positions)):
        return receipts
    return [receipt for _, receipt in sorted(zip(positions, receipts, strict=True), key=lambda pair: pair[0])]
