"""What was seen of a sample: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import AmpdError, BlockUnavailable
from ampd_ray.materialize.types import Extract


@dataclass(frozen=True)
class Run:
    """What one run of consecutive blocks came to: rows and Arrow bytes by table; ``wire_bytes`` are of JSON.

    ``receipt_calls`` are those beside one for each block. ``fetch_secs`` is for all of it, in ``trips`` one by one.
    """

    span: Span
    rows: Mapping[str, int]
    arrow_bytes: Mapping[str, int]
    receipt_calls: int
    wire_bytes: int
    fetch_secs: float

    @property
    def trips(self) -> int:
        """Requests one after the other: receipts are asked for when the block is there."""
        return 2 if self.receipt_calls else 1


@dataclass
class Sample:
    """What was seen. ``runs`` by the index of their stratum; ``unserved``: the strata that the provider lacks.

    ``first_served``: the lowest block that it has, if it lacks all that are lower. ``faults``: what went wrong with
    others. ``cpu_secs``: what blocks of ``cpu_bytes`` of JSON took of this process, one after the other. ``crowding``:
    how many seconds a CPU second took here.
    """

    runs: dict[int, Run] = field(default_factory=dict)
    extracts: dict[int, Extract] = field(default_factory=dict)
    unserved: dict[int, BlockUnavailable] = field(default_factory=dict)
    first_served: int | None = None
    faults: list[AmpdError] = field(default_factory=list)
    cpu_secs: float = 0.0
    cpu_bytes: int = 0
    crowding: float = 1.0
    secs: float = 0.0
    batch_size: int = 1
    per_transaction: bool = False
    throttled: int = 0
    finalized: int | None = None

    @property
    def blocks(self) -> int:
        """How many were looked at."""
        return sum(len(run.span) for run in self.runs.values())

    @property
    def wire_bytes(self) -> int:
        """What they took."""
        return sum(run.wire_bytes for run in self.runs.values())

    @property
    def latency_secs(self) -> float:
        """Of one request, with few others beside it."""
        return median(run.fetch_secs / run.trips for run in self.runs.values())


@dataclass(frozen=True)
class Parquet:
    """What a table's sample became: ``once`` for each row group, and ``per_byte`` of Arrow memory; CPU seconds too.

    Both from two sizes of file: small ones compress worse than large ones do, and only what more rows add goes on.
    ``spread`` is the relative standard error of that.
    """

    once: float
    per_byte: float
    spread: float
    secs_per_byte: float
