"""The values that the parts of a job hand to one another.

They travel between processes, so they are frozen, small and picklable; the one large value is
:class:`Extract`, which the coordinator never opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

import pyarrow as pa

from ampd_ray.chain.links import BlockLinks
from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.config.keys import Writer
from ampd_ray.datasets.evm.verdicts import Level
from ampd_ray.errors import AmpdError

MAX_ROW_GROUP_BYTES = 64 << 20


@dataclass(frozen=True)
class RangeTask:
    """One span to extract. ``provider`` is a name: the extractor reads the file itself, so no secret travels.

    ``wholly``: what can only be verified in part is refused. ``chain_id``: the chain that the provider has to serve.
    ``share``: the part of the provider's limits that is this extractor's; the others use the rest.
    """

    job_id: int
    partition: int
    span: Span
    tables: tuple[str, ...]
    provider: str
    network: str
    verify: Level = Level.OFF
    wholly: bool = False
    chain_id: int | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Load:
    """What one extractor did since it was last asked.

    ``busy``: the part of its time in which it computed. ``full``: it has as many requests under way as one process may
    have. ``room``: of the providers that it asks one would take more.
    """

    busy: float = 0.0
    full: bool = False
    room: bool = True


class Verified(StrEnum):
    """What is known of a segment's rows, the least first (``ampd_ray.segment.verified``)."""

    NONE = "none"
    PARTIAL = "partial"
    ROOTS = "roots"
    FULL = "full"

    @classmethod
    def least(cls, several: Iterable[Verified]) -> Verified:
        """What is known of all of them together; there is one at least."""
        return min(several, key=list(cls).index)


@dataclass(frozen=True)
class ExtractSummary:
    """What the coordinator needs to know of an extract. Sizes are bytes, times are seconds."""

    span: Span
    rows: Mapping[str, int]
    nbytes: int
    requests: int
    retries: int
    rpc_bytes: int
    fetch_secs: float
    decode_secs: float


@dataclass(frozen=True)
class Extract:
    """The rows of one span, one Arrow table for each name of the task, and the links between its blocks."""

    span: Span
    links: BlockLinks
    tables: Mapping[str, pa.Table]
    verified: Verified = Verified.NONE


@dataclass(frozen=True)
class Location:
    """One table's revision as this run of the job holds it: ``epoch`` is the fencing token of its lease."""

    table: str
    location_id: int
    path: str
    epoch: int


@dataclass(frozen=True)
class WriterOptions:
    """Parquet and segment settings (``spec/data.md`` 5.3, 4.4). Sizes are bytes; a segment ends at either bound.

    Files that are replaced are deleted after ``collect_after_secs``; None: never.
    """

    compression: str = "zstd"
    compression_level: int | None = 1
    bloom_filters: bool = False
    row_group_bytes: int = 64 << 20
    segment_bytes: int = 2 << 30
    segment_blocks: int = 1_000_000
    collect_after_secs: float | None = None

    @classmethod
    def of(cls, writer: Writer) -> WriterOptions:
        """As configured; a row group is bounded for memory's sake, whatever Amp's default allows."""
        return cls(
            compression=writer.compression.codec,
            compression_level=writer.compression.level,
            bloom_filters=writer.bloom_filters,
            row_group_bytes=min(writer.max_row_group_mb << 20, MAX_ROW_GROUP_BYTES),
            segment_bytes=writer.bytes or 1 << 62,
            collect_after_secs=writer.collector.deletion_lock_duration if writer.collector.collects else None,
        )


@dataclass(frozen=True)
class Partition:
    """Ordered spans of one set of tables, written by one writer.

    ``known`` holds, per location, the registered files that this partition may overlap, by id: those that a repair
    replaces. Any other overlap means that somebody else committed these blocks. What comes out just like one of them is
    not written, but for those of ``again``: branches that come back win by being newer.
    ``newest_ns`` is the highest ``created_at`` of all registered files (Unix nanoseconds), which the new ones exceed.
    """

    job_id: int
    node_id: str
    incarnation: UUID
    number: int
    network: str
    spans: tuple[Span, ...]
    locations: tuple[Location, ...]
    known: Mapping[int, Mapping[int, BlockRange]]
    newest_ns: int
    options: WriterOptions
    again: frozenset[int] = frozenset()
    finalized: int | None = None


@dataclass(frozen=True)
class CommittedFile:
    """A file that is registered now."""

    table: str
    location_id: int
    file_id: int
    range: BlockRange
    created_ns: int
    rows: int
    nbytes: int


@dataclass(frozen=True)
class UnchangedFile:
    """A registered file whose blocks were extracted again, and are just what it holds."""

    table: str
    file_id: int
    span: Span


@dataclass(frozen=True)
class WriterReport:
    """What a call to a writer brought about: spans that are in open or committed files, and files committed.

    ``open``: a file with uncommitted blocks is open now. ``finished``: every block of the partition is committed.
    ``unchanged``: files that were to be replaced, and need not be.
    """

    appended: tuple[Span, ...] = ()
    committed: tuple[CommittedFile, ...] = ()
    open: bool = False
    finished: bool = False
    unchanged: tuple[UnchangedFile, ...] = ()


class Outcome(StrEnum):
    """How a run of a job ended."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    FENCED = "fenced"


@dataclass(frozen=True)
class JobOutcome:
    """How a run of a job ended, with the error if it failed.

    ``cut_short``: asked to stop, it dropped blocks that it could not commit; they are extracted again.
    """

    outcome: Outcome
    error: AmpdError | None = None
    cut_short: bool = False


@dataclass
class JobTotals:
    """Counters of one run, for progress and the final summary."""

    blocks: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    nbytes: int = 0
    files: int = 0
    requests: int = 0
    retries: int = 0
    rpc_bytes: int = 0
