"""What inline verification takes from the node's answer because no table stores it (data.md 9.2-9.3, 1.4.2)."""

from __future__ import annotations

from ampd_ray.datasets.evm.columns import ColumnError, one_binary, one_number
from ampd_ray.datasets.evm.consensus import InconsistentRowError
from ampd_ray.datasets.evm.hashing import RlpItem, rlp_encode
from ampd_ray.datasets.evm.rows import TransactionRow
from ampd_ray.datasets.evm.rpc import RpcReceipt, RpcTransaction

DEPOSIT = 0x7E
"""The type of OP deposits."""

_MAX_U256 = (1 << 256) - 1


def deposit_envelope(tx: TransactionRow, answered: RpcTransaction) -> bytes:
    """What an OP deposit is hashed as. Raises InconsistentRowError if the answer lacks its source hash."""
    try:
        source = one_binary(answered.source_hash, width=32)
        mint = 0 if answered.mint is None else one_number(answered.mint, highest=_MAX_U256)
    except ColumnError as error:
        raise InconsistentRowError(f"deposit {tx.tx_index}: sourceHash or mint {error.reason}") from None
    system = int(bool(answered.is_system_tx))
    fields: list[RlpItem] = [source, tx.sender, tx.to or b"", mint, tx.value, tx.gas_limit, system, tx.input]
    return bytes([DEPOSIT]) + rlp_encode(fields)


def deposit_extra(answered: RpcReceipt) -> list[RlpItem]:
    """The fields that a deposit's receipt ends with since Canyon; before, a reported nonce is not encoded."""
    if answered.deposit_receipt_version is None:
        return []
    try:
        return [one_number(answered.deposit_nonce), one_number(answered.deposit_receipt_version)]
    except ColumnError as error:
        raise InconsistentRowError(f"a deposit's nonce or receipt version: {error.reason}") from None


def with_raw_root(tx: TransactionRow, answered: RpcReceipt) -> TransactionRow:
    """The row with the receipt's state root, which is not stored where the node sent a status beside it."""
    try:
        return tx._replace(state_root=one_binary(answered.root, width=32))
    except ColumnError:
        return tx


def with_raw_authorizations(tx: TransactionRow, answered: RpcTransaction) -> TransactionRow:
    """The row with its authorizations' chain ids as the node sent them, whatever their size."""
    stored, sent = tx.authorization_list or [], answered.authorization_list or []
    chain_ids = [one_number(entry.chain_id, highest=_MAX_U256) for entry in sent]
    if len(stored) != len(sent):
        raise InconsistentRowError(f"transaction {tx.tx_index} has {len(stored)} authorizations, {len(sent)} were sent")
    entries = [entry | {"chain_id": chain_id} for entry, chain_id in zip(stored, chain_ids, strict=True)]
    return tx._replace(authorization_list=entries)
