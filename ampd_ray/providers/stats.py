"""What a source has done so far."""

from __future__ import annotations

from dataclasses import dataclass, fields

_FIRST_BYTES = float(1 << 20)  # taken for typical until it is known
_WEIGHT = 0.1  # of the last answer in what is typical


@dataclass(frozen=True, slots=True)
class SourceStats:
    """Counters since the source was opened. ``bytes_received`` counts JSON, after decompression."""

    requests: int = 0  # messages sent
    calls: int = 0  # JSON-RPC calls in them
    retries: int = 0  # calls sent again after a failure
    throttled: int = 0  # calls refused for coming too fast
    splits: int = 0  # batches halved
    data_faults: int = 0  # blocks fetched again because they failed a check
    bytes_received: int = 0


class Counters:
    """The same, while counting. ``typical_bytes`` is what an answer had of late, rather more than less."""

    def __init__(self) -> None:
        self.requests = self.calls = self.retries = self.throttled = 0
        self.splits = self.data_faults = self.bytes_received = 0
        self.typical_bytes = _FIRST_BYTES

    def received(self, nbytes: int) -> None:
        """An answer came."""
        self.bytes_received += nbytes
        self.typical_bytes = max(nbytes, self.typical_bytes + (nbytes - self.typical_bytes) * _WEIGHT)

    def snapshot(self) -> SourceStats:
        """The counts now."""
        return SourceStats(**{field.name: getattr(self, field.name) for field in fields(SourceStats)})
