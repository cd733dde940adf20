"""What a check says that fails: the error names network, block, check and rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from ampd_ray.datasets.evm.quirks import Rule
from ampd_ray.datasets.evm.rpc import Quantity, quantity
from ampd_ray.errors import DataFault, ReorgDuringFetch


@dataclass(frozen=True, slots=True)
class Findings:
    """Of one block; ``check`` is the number of the row in the table of data.md 2.3."""

    network: str
    block: int

    def fault(self, check: int, reason: str, rule: Rule | None = None) -> NoReturn:
        """The answers contradict themselves, or miss something."""
        raise DataFault(f"{self.network} block {self.block}: {reason}", **self._details(check, rule))

    def reorged(self, check: int, reason: str) -> NoReturn:
        """The answers are of two branches."""
        message = f"{self.network} block {self.block}: {reason}; the chain moved between two calls"
        raise ReorgDuringFetch(message, **self._details(check, None))

    def quantity(self, check: int, value: Quantity, field: str) -> int:
        """``value`` as a number; a fault where it is none."""
        try:
            return quantity(value)
        except ValueError as error:
            self.fault(check, f"{field} is {error}")

    def _details(self, check: int, rule: Rule | None) -> dict[str, object]:
        facts: dict[str, object] = {"network": self.network, "block": self.block, "check": check}
        return facts if rule is None else facts | {"rule": rule.name}


def lower(value: str | None) -> str | None:
    """Hex as it compares, whatever its case."""
    return value.lower() if value is not None else None
