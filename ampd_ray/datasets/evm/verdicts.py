"""What verification says about a block (data.md 9.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much is recomputed; each level has what stands before it."""

    OFF = "off"
    ROOTS = "roots"  # block hash, transactions root, receipts root; copied columns are compared
    FULL = "full"  # each transaction's hash, and its sender from its signature


class Result(StrEnum):
    """How it came out."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    PARTIAL = "partial"  # nothing is wrong as far as it goes, but the rows lack what the rest needs
    UNSUPPORTED = "unsupported"  # what can be checked holds; a type or a chain whose encoding we do not know


class Check(StrEnum):
    """What was recomputed."""

    BLOCK_HASH = "block hash"
    TRANSACTIONS_ROOT = "transactions root"
    RECEIPTS_ROOT = "receipts root"
    COPIES = "copied columns"
    TRANSACTION_HASH = "transaction hash"
    SENDER = "sender"
    PARENT = "parent hash"  # offline only: the block before is there, and is its parent


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one block.

    Of a failure also the check, and what it expected and computed: both as 0x hex, or a sentence. Of a block that is
    verified in part, the first check that could not be made, and what is ``missing`` for it.
    """

    block: int
    result: Result
    level: Level
    check: Check | None = None
    expected: str | None = None
    computed: str | None = None
    missing: str | None = None

    @property
    def failed(self) -> bool:
        """True if the rows contradict the header: never write them."""
        return self.result is Result.FAIL
