"""Where a bad value stands, for errors that name network, block, transaction, log and field (data.md 1.6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from ampd_ray.datasets.evm.columns import ColumnError, Problem
from ampd_ray.datasets.evm.rpc import Quantity, RpcBlock, quantity
from ampd_ray.errors import DataFault, ValueOverflow

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A header, a transaction of it, or a log of that; ``log_index`` as the node sent it."""

    network: str
    block: int | str
    tx_index: int | None = None
    tx_hash: str | None = None
    log_index: int | str | None = None

    def __str__(self) -> str:
        if self.tx_index is None:
            return f"{self.network} block {self.block} header"
        log = "" if self.log_index is None else f" log {self.log_index}"
        return f"{self.network} block {self.block} tx {self.tx_index} {self.tx_hash}{log}"

    def fault(self, field: str, reason: str) -> DataFault:
        """The node's data contradict themselves, or miss something."""
        return DataFault(f"{self} {field}: {reason}", **self._details(field))

    def error(self, field: str, bad: ColumnError) -> DataFault | ValueOverflow:
        """The error that stops the block because of one bad value."""
        if bad.problem is Problem.OVERFLOW:
            return ValueOverflow(f"{self} {field}: {bad.reason}", **self._details(field))
        return self.fault(field, bad.reason)

    def _details(self, field: str) -> dict[str, object]:
        facts: dict[str, object] = {"network": self.network, "block": self.block, "field": field}
        optional = {"tx_index": self.tx_index, "tx_hash": self.tx_hash, "log_index": self.log_index}
        return facts | {name: fact for name, fact in optional.items() if fact is not None}


class Columns:
    """Builds columns whose rows have places, so that a bad value becomes an error that names its own."""

    def __init__(self, where: Callable[[int], Place]) -> None:
        self._where = where

    def column(self, field: str, build: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``build(*args, **kwargs)``; its ColumnError becomes the error of that row's place and ``field``."""
        try:
            return build(*args, **kwargs)
        except ColumnError as bad:
            raise self._where(bad.index).error(field, bad) from None


def number_of(block: RpcBlock) -> int | str:
    """The block's number for a message: as a number where it can be read, else as the node sent it."""
    return readable(block.number)


def readable(value: Quantity) -> int | str:
    """``value`` as a number where it is one, else as text."""
    try:
        return quantity(value)
    except ValueError:
        return str(value)
