"""The registered files of a dataset, as the database tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

TABLES = ("blocks", "transactions", "logs")

FILES = """
select f.id, t.table_name, f.location_id, f.metadata, f.object_size, f.url, f.file_name,
       s.canonical, s.sha256, s.row_count, s.epoch, lower(s.blocks) as first, upper(s.blocks) - 1 as last
from physical_tables t
join file_metadata f on f.location_id = t.active_revision_id
left join ampd_ray.segment s on s.file_id = f.id
where t.dataset_namespace = %s and t.dataset_name = %s
order by t.table_name, f.id
"""


@dataclass(frozen=True)
class File:
    """One registered file of a table, with its segment."""

    id: int
    table: str
    location: int
    metadata: dict[str, Any]
    size: int
    url: str
    name: str
    canonical: bool | None
    sha256: bytes | None
    rows: int | None
    epoch: int | None
    first: int | None
    last: int | None

    @property
    def block_range(self) -> dict[str, Any]:
        """Its block range, as its row has it."""
        found: dict[str, Any] = self.metadata["ranges"][0]
        return found

    @property
    def created_ns(self) -> int:
        """When its row says that it was made, Unix nanoseconds."""
        created = self.metadata["created_at"]
        return int(created["secs"]) * 10**9 + int(created["nanos"])

    @property
    def path(self) -> Path:
        """Where its object is."""
        return path_of(self.url + self.name if self.url.endswith("/") else self.url)

    @property
    def blocks(self) -> range:
        """The blocks that its segment covers."""
        return range(self.first or 0, (self.last if self.last is not None else -1) + 1)


def path_of(url: str) -> Path:
    """The path of a ``file:`` URL."""
    return Path(unquote(urlsplit(url).path))


def read_files(connection: psycopg.Connection[Any], dataset: str) -> list[File]:
    """All registered files of a dataset's active revisions, in the order in which they were committed."""
    return [File(*row) for row in connection.execute(FILES, dataset.split("/")).fetchall()]
