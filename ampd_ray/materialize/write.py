"""Write one partition: put extracts back into block order, cut segments, encode, publish and commit them.

The order of effects is the contract (``spec/commit.md``): the intent is committed before the object appears under
its name, the object is checked in the store before its row, and the rows of all tables of a segment appear in one
transaction that checks the epoch.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import ParamSpec, TypeVar

import numpy as np
import pyarrow as pa

from ampd_ray import failpoints
from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.repair import twin
from ampd_ray.errors import ActorLost, StoreError
from ampd_ray.materialize.assemble import Assembler, CutSegment, Instruction, Limits, WriteRows
from ampd_ray.materialize.encode import ClosedFile, TableFile, footer_metadata
from ampd_ray.materialize.patience import patiently
from ampd_ray.materialize.types import (
    CommittedFile,
    Extract,
    Location,
    Partition,
    UnchangedFile,
    Verified,
    WriterReport,
)
from ampd_ray.metadb import files
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import ObjectMeta, Store
from ampd_ray.store.layout import file_name

WRITER_VERSION = 1
# What a byte of Arrow memory becomes on disk with zstd; measured on mainnet, where it is 0.25 to 0.4.
FILE_BYTES_PER_ARROW_BYTE = 0.35
AWAY_WITHIN_SECS = 300.0  # for a database or an object store that is away; then the blocks are planned again

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class PartitionWriter:
    """Writes one partition. Calls may overlap; they are taken one at a time.

    They raise ``Overlap``, ``Fenced``, ``StoreError`` or a database error; what was not committed is discarded then,
    and any further call raises ``ActorLost``: the gap that was left can only be planned again.
    """

    def __init__(self, partition: Partition, db: Database, store: Store):
        self._partition = partition
        self._db = db
        self._store = store
        self._turn = asyncio.Lock()
        self._given_up = False
        self._open: dict[str, TableFile] = {}
        self._verified: set[Verified] = set()  # of what is in the open files
        limits = Limits(bytes=partition.options.segment_bytes, blocks=partition.options.segment_blocks)
        self._assembler = Assembler(partition.spans, limits, finalized=partition.finalized)

    async def append(self, extract: Extract) -> WriterReport:
        """Write and commit as far as the blocks join up; an extract that comes early waits in memory."""
        async with self._turn:
            self._check()
            nbytes = sum(table.nbytes for table in extract.tables.values())
            instructions = self._assembler.push(
                extract.span, extract.links, extract, int(nbytes * FILE_BYTES_PER_ARROW_BYTE)
            )
            return await self._carry_out(instructions)

    async def skip(self, span: Span) -> WriterReport:
        """Do without these blocks: no file reaches across them."""
        async with self._turn:
            self._check()
            return await self._carry_out(self._assembler.skip(span), without=span)

    async def flush(self, reason: str) -> WriterReport:
        """Commit the open file now; blocks that wait for earlier ones stay where they are."""
        async with self._turn:
            self._check()
            return await self._carry_out(self._assembler.flush(reason))

    async def discard(self) -> None:
        """Give the partition up: remove the unfinished files."""
        async with self._turn:
            self._given_up = True
            await _in_thread(self._discard)

    def _check(self) -> None:
        if self._given_up:
            spans = ", ".join(map(str, self._partition.spans))
            raise ActorLost(f"the writer of blocks {spans} has given them up; they are planned again")

    async def _carry_out(self, instructions: Sequence[Instruction], without: Span | None = None) -> WriterReport:
        appended = [] if without is None else [without]
        committed: list[CommittedFile] = []
        unchanged: list[UnchangedFile] = []
        try:
            for instruction in instructions:
                if isinstance(instruction, WriteRows):
                    await _in_thread(self._write, instruction)
                    extract: Extract = instruction.payload
                    if instruction.last == extract.span.end:
                        appended.append(extract.span)
                else:
                    committed += await self._commit(instruction, unchanged)
        except BaseException:
            self._given_up = True
            await _in_thread(self._discard)
            raise
        assembler = self._assembler
        return WriterReport(
            appended=tuple(appended),
            committed=tuple(committed),
            open=assembler.open_span is not None,
            finished=assembler.finished,
            unchanged=tuple(unchanged),
        )

    def _write(self, instruction: WriteRows) -> None:
        extract: Extract = instruction.payload
        for location in self._partition.locations:
            rows = _rows_of(extract.tables[location.table], extract.span, Span(instruction.first, instruction.last))
            self._file_of(location).write(rows)
            self._verified.add(extract.verified)
            failpoints.reach_in_thread("mid-file")

    def _file_of(self, location: Location) -> TableFile:
        if location.table not in self._open:
            staged = self._store.stage(location.location_id, location.epoch, f"{uuid.uuid4().hex}.parquet")
            self._open[location.table] = TableFile(staged, location.table, self._partition.options)
        return self._open[location.table]

    def _discard(self) -> None:
        while self._open:
            self._open.popitem()[1].discard()

    # -- one segment becomes visible ------------------------------------------------------------------------------

    async def _commit(self, cut: CutSegment, unchanged: list[UnchangedFile]) -> list[CommittedFile]:
        """Announce, finish, publish and commit the open files of all tables, but for those that are there already."""
        verified, self._verified = Verified.least(self._verified), set()
        range_ = BlockRange(self._partition.network, cut.start, cut.end, cut.hash, cut.prev_hash, cut.timestamp)
        twins = await _in_thread(self._drop_twins, range_)
        unchanged += twins
        dropped = {found.table for found in twins}
        locations = [location for location in self._partition.locations if location.table not in dropped]
        if not locations:
            return []
        names = {location.table: self._name(location, range_) for location in locations}
        intents = [files.Intent(location.location_id, names[location.table], location.epoch) for location in locations]
        created_ns = await patiently(
            lambda: files.announce(self._db, intents, newest_ns=self._partition.newest_ns), AWAY_WITHIN_SECS
        )
        await failpoints.reach("intent-written")
        new_files = [
            await self._publish(location, range_, names[location.table], created_ns, verified) for location in locations
        ]
        keep = self._partition.options.collect_after_secs
        request = files.CommitRequest(
            job_id=self._partition.job_id,
            node_id=self._partition.node_id,
            incarnation=self._partition.incarnation,
            files=tuple(new_files),
            collect_after=None if keep is None else timedelta(seconds=keep),
        )
        await failpoints.reach("before-commit")
        committed = await patiently(lambda: files.commit(self._db, request), AWAY_WITHIN_SECS)
        await failpoints.reach("committed")
        rows = {file.location_id: file for file in new_files}
        return [
            CommittedFile(
                table=rows[done.location_id].table,
                location_id=done.location_id,
                file_id=done.segment.file_id,
                range=range_,
                created_ns=created_ns,
                rows=rows[done.location_id].row_count,
                nbytes=rows[done.location_id].size,
            )
            for done in committed
        ]

    def _drop_twins(self, range_: BlockRange) -> list[UnchangedFile]:
        """Write nothing for tables that have just this file; a repair may find what is there already."""
        found: list[UnchangedFile] = []
        for location in self._partition.locations:
            file_id = twin(range_, self._partition.known.get(location.location_id, {}), self._partition.again)
            if file_id is not None:
                self._open.pop(location.table).discard()
                found.append(UnchangedFile(location.table, file_id, range_.span))
        if found:
            logger.info("blocks are as they were; not written again", extra={"blocks": range_.span})
        return found

    def _name(self, location: Location, range_: BlockRange) -> str:
        return file_name(
            location_id=location.location_id,
            network=range_.network,
            start=range_.start,
            end=range_.end,
            start_parent=range_.prev_hash,
            end_hash=range_.hash,
            generation=0,
            writer_version=WRITER_VERSION,
            epoch=location.epoch,
        )

    async def _publish(
        self, location: Location, range_: BlockRange, name: str, created_ns: int, verified: Verified
    ) -> files.NewFile:
        """Close and publish one table's file. A segment without rows of a table still gets its (empty) file."""
        metadata = footer_metadata(
            table=location.table, filename=name, created_ns=created_ns, range_=range_, parents=[], generation=0
        )
        path = f"{location.path}/{name}"
        closed = await _in_thread(self._close, location.table, metadata)
        meta = await patiently(lambda: _in_thread(self._send, closed, path), AWAY_WITHIN_SECS)
        del self._open[location.table]
        _check_stored(path, closed, meta)
        return files.NewFile(
            table=location.table,
            location_id=location.location_id,
            epoch=location.epoch,
            known=frozenset(self._partition.known.get(location.location_id, ())),
            file_name=name,
            directory_url=self._store.url_of(location.path) + "/",
            range=range_,
            created_ns=created_ns,
            metadata_json=metadata["nozzle_metadata"],
            footer=closed.footer,
            size=meta.size,
            e_tag=meta.e_tag,
            version=meta.version,
            sha256=meta.sha256,
            row_count=closed.rows,
            verified=verified,
        )

    def _close(self, table: str, metadata: Mapping[str, str]) -> ClosedFile:
        closed = self._open[table].close(metadata)
        failpoints.reach_in_thread("file-closed")
        return closed

    def _send(self, closed: ClosedFile, path: str) -> ObjectMeta:
        """May be repeated: what is there already, and the same, was sent before."""
        meta = self._store.publish(closed.path, path)
        failpoints.reach_in_thread("published")
        return meta


async def _in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As ``asyncio.to_thread``, but when cancelled it waits for the thread, which nobody can cancel."""
    task = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _check_stored(path: str, written: ClosedFile, stored: ObjectMeta) -> None:
    """The store must hold just the bytes that were written (``spec/commit.md`` 5); else nothing is committed."""
    if (stored.size, stored.sha256) != (written.size, written.sha256):
        raise StoreError(
            f"{path}: {written.size} bytes were written, but the store gives back {stored.size} bytes with another "
            "content. The file is not committed, and its blocks are extracted again; check the disk.",
            path=path,
        )


def _rows_of(table: pa.Table, held: Span, wanted: Span) -> pa.Table:
    """The rows of the blocks ``wanted``; rows ascend by block, so two binary searches find them."""
    if wanted == held or table.num_rows == 0:
        return table
    numbers = table.column("_block_num").to_numpy()
    low, high = np.searchsorted(numbers, [wanted.start, wanted.end + 1])
    return table.slice(int(low), int(high - low))
