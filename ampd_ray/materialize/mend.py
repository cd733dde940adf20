"""Mend what an audit found, where that is safe: rows that follow from files, and what nobody can commit any more.

Files and their rows are never changed. The one thing deleted by a listing is an object that no row accounts for, has
the shape of ours, and is older than a day (``spec/commit.md`` 7, ``spec/metadata-db.md`` 8.6).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ampd_ray.errors import InvalidFileRow, StoreError
from ampd_ray.materialize.audit import Finding, Kind, is_sound
from ampd_ray.materialize.check import Audit, TableAudit
from ampd_ray.materialize.sweep import Broom
from ampd_ray.materialize.types import Location
from ampd_ray.metadb import audit as rows
from ampd_ray.metadb import repair, sweep
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import Store

ORPHAN_SECS: Final = timedelta(hours=24).total_seconds()

_FILE_NAME: Final = re.compile(r"\d{9,}-[0-9a-f]{16}\.parquet")
_OF_INDEX: Final = frozenset(
    {Kind.SEGMENT_MISSING, Kind.SEGMENT_DIFFERS, Kind.SEGMENT_STRAY, Kind.CANONICAL_FLAG, Kind.OVERLAP}
)
_OF_FOOTER: Final = frozenset({Kind.FOOTER_MISSING, Kind.FOOTER_DIFFERS})
_LEFT_OVER: Final = frozenset(
    {
        Kind.INTENT_SUPERSEDED,
        Kind.INTENT_ABANDONED,
        Kind.INTENT_FULFILLED,
        Kind.TOMBSTONE,
        Kind.TOMBSTONE_REGISTERED,
        Kind.STAGING_LEFTOVER,
    }
)

MENDABLE: Final = _OF_INDEX | _OF_FOOTER | _LEFT_OVER | {Kind.ROW_COUNT, Kind.QUEUED_CANONICAL, Kind.ORPHAN_OBJECT}
"""What may be mended; of what is found some may yet be too young, or stand in a file that is wrong itself."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mender:
    """Mends what ``audit`` found and marks it in the findings; what is left is for a person."""

    audit: Audit
    db: Database
    store: Store

    async def mend(self) -> None:
        """Mend every table. Raises a database error; an object that cannot be deleted stays a finding."""
        for table in self.audit.tables:
            await self._footers(table)
            await self._index(table)
            await self._left_over(table)
            await self._orphans(table)

    async def _footers(self, table: TableAudit) -> None:
        """Cache the footers of files anew, read from the files themselves."""
        for finding in [each for each in table.findings if each.kind in _OF_FOOTER]:
            assert finding.file_id is not None
            async with self.db.connection() as conn:
                found = await rows.file_rows(conn, table.revision.location_id, finding.file_id - 1, limit=1)
            row = found[0] if found and found[0].file_id == finding.file_id else None
            facts = None if row is None else await self.audit.inspect(table, row)
            if row is None or facts is None or facts.page_index or not is_sound(row, facts):
                continue
            async with self.db.connection() as conn:
                await repair.put_footer(conn, row.file_id, facts.footer)
            _mark(table, {finding})

    async def _index(self, table: TableAudit) -> None:
        """Write index rows anew, and take files that are on the chain out of the collector's queue."""
        counts = {f for f in table.findings if f.kind is Kind.ROW_COUNT and f.file_id in table.counted}
        queued = {f for f in table.findings if f.kind is Kind.QUEUED_CANONICAL}
        wrong = {f for f in table.findings if f.kind in _OF_INDEX} | counts | queued
        if not wrong:
            return
        live = [f.file_id for f in queued if f.file_id is not None]
        try:
            await repair.mend_index(self.db, table.revision.location_id, table.entries.values(), live)
        except InvalidFileRow as error:
            logger.warning("the segment index cannot be mended", extra={"table": table.table, "error": error})
        else:
            _mark(table, wrong)

    async def _left_over(self, table: TableAudit) -> None:
        """Sweep under the epoch of the newest lease; what is still there afterwards is still a finding."""
        before = {finding for finding in table.findings if finding.kind in _LEFT_OVER}
        if not before:
            return
        at, urls = table.revision, [f.subject for f in before if f.kind is Kind.TOMBSTONE_REGISTERED]
        async with self.db.connection() as conn:
            for url in [url for url in await rows.tombstones(conn, at.location_id) if _name(url) in urls]:
                await repair.revoke_tombstone(conn, url)
            epoch = await sweep.supersede(conn, at.location_id, await rows.epoch(conn, at.location_id))
        try:
            location = Location(table.table, at.location_id, at.path, epoch)
            await Broom(self.db, self.store, collect=False).sweep(location, again_after=timedelta(0))
        except StoreError as error:
            logger.warning("not everything could be swept", extra={"table": table.table, "error": error})
        left = {(finding.kind, finding.subject) for finding in await self.audit.leftovers(table)}
        _mark(table, {finding for finding in before if (finding.kind, finding.subject) not in left})

    async def _orphans(self, table: TableAudit) -> None:
        """Delete old objects of our shape that no row accounts for, having asked the rows once more."""
        old = {o.name for o in table.orphans if o.age_secs >= ORPHAN_SECS and _FILE_NAME.fullmatch(o.name)}
        if not old:
            return
        async with self.db.connection() as conn:
            still = await rows.unknown_names(conn, table.revision.location_id, old)
        gone = await asyncio.to_thread(self._delete, [f"{table.revision.path}/{name}" for name in sorted(still)])
        _mark(table, {f for f in table.findings if f.kind is Kind.ORPHAN_OBJECT and f.subject in gone})

    def _delete(self, paths: Collection[str]) -> set[str]:
        gone = set()
        for path in paths:
            try:
                self.store.delete(path)
                gone.add(_name(path))
            except StoreError as error:
                logger.warning("an orphan cannot be deleted", extra={"path": path, "error": error})
        return gone


def _mark(table: TableAudit, mended: Collection[Finding]) -> None:
    table.findings = [finding.mended() if finding in mended else finding for finding in table.findings]


def _name(path: str) -> str:
    return path.rpartition("/")[2]
