"""What a job was asked to do, as its descriptor and the manifest say: the same for whoever asks, at any time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.datasets.priority import PRIORITY
from ampd_ray.datasets.tables import TABLES
from ampd_ray.errors import InvalidDescriptor

if TYPE_CHECKING:
    from ampd_ray.datasets.manifest import Manifest
    from ampd_ray.metadb.jobs import JobRow

LAST_BLOCK = (1 << 62) - 1
"""Further than any chain goes, and within what Postgres and ``len`` can take."""


@dataclass(frozen=True)
class Work:
    """What a job extracts. ``dataset`` names the manifest by its hash, so that it means these files for good.

    ``end``: the last block; None while the job follows the head, or until its node has settled what ``latest`` is.
    """

    dataset: DatasetRef
    network: str
    start: int
    end: int | None
    tables: tuple[str, ...]

    @property
    def span(self) -> Span | None:
        """The blocks, None without a last one."""
        return None if self.end is None else Span(self.start, self.end)

    @property
    def reach(self) -> Span:
        """The blocks, all from the first on without a last one."""
        return self.span or Span(self.start, LAST_BLOCK)


def descriptor_of(row: JobRow) -> JobDescriptor:
    """The descriptor of a job. Raises ``InvalidDescriptor`` or ``UnsupportedJobKind`` for what is somebody else's."""
    return JobDescriptor.parse(json.dumps(row.descriptor))


def reference(descriptor: JobDescriptor) -> DatasetRef:
    """The dataset of a job, pinned to its manifest."""
    return DatasetRef(descriptor.dataset_namespace, descriptor.dataset_name, descriptor.manifest_hash)


def name_of(row: JobRow) -> str:
    """``namespace/name`` of a job's dataset; empty where its descriptor names none."""
    descriptor = row.descriptor if isinstance(row.descriptor, dict) else {}  # it may be anybody's
    names = [descriptor.get(key) for key in ("dataset_namespace", "dataset_name")]
    return "/".join(map(str, names)) if None not in names else ""


def priority_of(row: JobRow) -> object:
    """The priority of a job, which is :data:`PRIORITY` where its descriptor says none."""
    descriptor = row.descriptor if isinstance(row.descriptor, dict) else {}
    return descriptor.get("priority", PRIORITY)


def work_of(descriptor: JobDescriptor, manifest: Manifest, settled: int | None = None) -> Work:
    """The work of a job; ``settled``: of how many blocks its node says that a relative end means.

    Raises ``InvalidDescriptor`` if it ends before the dataset begins, or beyond any chain.
    """
    end, start = descriptor.end_block, manifest.start_block
    if end is not None and end.isdecimal():
        last: int | None = int(end)
    else:
        last = None if end is None or settled is None else start + settled - 1
    if last is not None and last < start:
        raise InvalidDescriptor(f"{descriptor.dataset} begins with block {start:,}, and the job ends with {last:,}")
    if (most := max(start, last or 0)) > LAST_BLOCK:
        raise InvalidDescriptor(f"{descriptor.dataset} goes up to block {most:,}, which no chain has")
    return Work(reference(descriptor), manifest.network, start, last, descriptor.tables or TABLES)
