"""What rows alone cannot tell: why a check cannot be made without the node's answer (data.md 9.2-9.4).

A gap is never taken where the rows suffice: each rule asks for the very thing that the tables cannot hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from ampd_ray.datasets.evm.kinds import LEGACY
from ampd_ray.datasets.evm.rows import Rows
from ampd_ray.datasets.evm.verdicts import Check, Result

BYZANTIUM = {1: 4_370_000, 3: 1_700_000, 4: 1_035_301, 42: 5_067_000, 61: 8_772_000, 63: 301_243}
"""The first block whose receipts say a status (EIP-658): mainnet, Ropsten, Rinkeby, Kovan, Classic, Mordor."""

_ALL_SAY_STATUS = 1_568_332_800  # 2019-09-13, the day after the last of them, Classic, came to it


@dataclass(frozen=True)
class Gap:
    """A check that was not made, and what is missing for it; of a root that did not match also both roots."""

    check: Check
    missing: str
    result: Result = Result.PARTIAL
    expected: str | None = None
    computed: str | None = None


DEPOSITS = Gap(
    Check.TRANSACTIONS_ROOT,
    "sourceHash, mint and isSystemTx of deposits, and (since Canyon) depositNonce and depositReceiptVersion of their "
    "receipts, which no table stores",
)
STATE_ROOTS = "the state roots of receipts, which are not stored where the node sent a status beside them"
CHAIN_IDS = "chain ids of authorizations, which are stored as 0 where they exceed 64 bits"


def unsupported(kinds: set[int]) -> Gap:
    """Transactions of types whose encoding is not known."""
    return Gap(Check.TRANSACTIONS_ROOT, f"the encoding of transactions of {named(kinds)}", Result.UNSUPPORTED)


def named(kinds: set[int]) -> str:
    """Transaction types as people read them."""
    return "type " + ", ".join(hex(kind) for kind in sorted(kinds))


def unsigned(index: int) -> Gap:
    """A transaction with r = s = 0, as rollups put into their blocks."""
    return Gap(Check.SENDER, f"a signature: nobody signed transaction {index}")


def may_lack_state_roots(number: int, seconds: int, transactions: Rows, chain_id: int | None) -> bool:
    """Whether the receipts of a block may begin with state roots that are not stored.

    Sure where the chain is known, or a transaction names it (EIP-155); else by date, from before all public chains
    said statuses.
    """
    chains = {chain for chain in (chain_id, *transactions.array("chain_id").to_pylist()) if chain is not None}
    if (transactions.integers("type") != LEGACY).any() or transactions.valid("state_root").all():
        return False
    if known := chains & BYZANTIUM.keys():
        return any(number < BYZANTIUM[chain] for chain in known)
    return seconds < _ALL_SAY_STATUS
