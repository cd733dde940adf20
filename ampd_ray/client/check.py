"""Audit a dataset: do rows, files and chain agree (``ampd check``)?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.materialize.audit import Finding
from ampd_ray.materialize.check import Audit, Progress, TableAudit
from ampd_ray.materialize.mend import Mender
from ampd_ray.metadb import audit as rows
from ampd_ray.metadb import datasets, quarantine, revisions
from ampd_ray.metadb.revisions import Revision

if TYPE_CHECKING:
    from ampd_ray.client.session import Client


@dataclass(frozen=True)
class CheckedTable:
    """A table as it was found; ``covered`` are the blocks in its live files, ``bytes`` those of all its files."""

    table: str
    location_id: int
    files: int
    bytes: int
    covered: tuple[Span, ...]


@dataclass(frozen=True)
class Report:
    """The result of an audit; a table that was never extracted is not in ``tables``.

    ``verified``: how many blocks, by how far they were verified before they were written. ``quarantined``: blocks that
    its job does without, since no provider delivers them correctly.
    """

    dataset: str
    manifest_hash: str
    tables: tuple[CheckedTable, ...]
    findings: tuple[Finding, ...]
    verified: Mapping[str, int]
    quarantined: tuple[int, ...]
    seconds: float

    @property
    def remaining(self) -> list[Finding]:
        """What is wrong still."""
        return [finding for finding in self.findings if not finding.repaired]

    def as_json(self) -> dict[str, Any]:
        """The output of ``ampd check --json``."""
        return {
            "dataset": self.dataset,
            "manifest_hash": self.manifest_hash,
            "tables": {
                table.table: {
                    "location_id": table.location_id,
                    "files": table.files,
                    "bytes": table.bytes,
                    "covered": [[span.start, span.end] for span in table.covered],
                }
                for table in self.tables
            },
            "findings": [
                {
                    "kind": str(finding.kind),
                    "table": finding.table,
                    "subject": finding.subject,
                    "message": finding.message,
                    "file_id": finding.file_id,
                    "repaired": finding.repaired,
                }
                for finding in self.findings
            ],
            "counts": dict(sorted(Counter(str(finding.kind) for finding in self.findings).items())),
            "remaining": len(self.remaining),
            "verified": dict(self.verified),
            "quarantined": list(self.quarantined),
            "seconds": round(self.seconds, 3),
        }


def check(
    client: Client,
    dataset: DatasetRef,
    *,
    repair: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Audit ``dataset``; with ``repair`` mend what is safe to. ``NotFound`` if there is no such dataset."""
    started = time.monotonic()
    manifest = client.manifest(dataset)
    store = client.calls.data

    async def run() -> tuple[list[TableAudit], dict[str, int], list[int]]:
        async with client.db.connection() as conn:
            manifest_hash = await datasets.resolve(conn, dataset)
            found: dict[str, Revision] = await revisions.active_revisions(
                conn, dataset.namespace, dataset.name, manifest_hash
            )
            group = quarantine.group_of_dataset(dataset.namespace, dataset.name, manifest_hash)
            aside = await quarantine.blocks(conn, group)
            blocks = found.get("blocks")
            verified = {} if blocks is None else await rows.levels(conn, blocks.location_id)
        audit = Audit(client.db, store, found, manifest.start_block, on_progress=on_progress)
        await audit.run()
        if repair:
            await Mender(audit, client.db, store).mend()
        return audit.tables, verified, aside

    tables, verified, aside = client.run(run())
    return Report(
        dataset=dataset.dataset,
        manifest_hash=manifest.hash,
        tables=tuple(
            CheckedTable(each.table, each.revision.location_id, len(each.files), each.bytes, tuple(each.covered))
            for each in tables
        ),
        findings=tuple(finding for each in tables for finding in each.findings),
        verified=verified,
        quarantined=tuple(aside),
        seconds=time.monotonic() - started,
    )
