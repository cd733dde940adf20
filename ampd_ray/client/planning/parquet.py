"""A sample as Parquet, encoded as a writer would, in memory; and how busy this machine is meanwhile."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ampd_ray.client.planning.seen import Parquet, Sample
from ampd_ray.materialize.encode import measured
from ampd_ray.materialize.types import WriterOptions

OF_THE_WAY = 1 / 3  # from what rows added at last to what they took on average: how far off the former may be


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """One round of the garbage collector may take longer than what is timed; extractors are hardly bothered by it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def encoded(sample: Sample, tables: Sequence[str], options: WriterOptions) -> dict[str, Parquet]:
    """Each table of the sample as Parquet: all of it, and every other run of it; notes how crowded this machine is."""
    extracts = [sample.extracts[i] for i in sorted(sample.extracts)]
    found = {}
    began, spent = time.monotonic(), time.process_time()
    for table in tables:
        rows = [pa.concat_tables([each.tables[table] for each in some]) for some in (extracts[::2], extracts)]
        measured(table, rows[0], options)  # the first takes longer than any later one
        half, whole = (_encoded(table, each, options) for each in rows)
        found[table] = _parquet(half, whole, measured(table, rows[0].slice(0, 0), options))
    sample.crowding = max(1.0, (time.monotonic() - began) / max(time.process_time() - spent, 1e-6))
    return found


@dataclass(frozen=True)
class _Encoded:
    nbytes: int
    file_bytes: int
    secs: float


def _encoded(table: str, rows: pa.Table, options: WriterOptions) -> _Encoded:
    with no_collector():
        began = time.process_time()
        return _Encoded(rows.nbytes, measured(table, rows, options), time.process_time() - began)


def _parquet(half: _Encoded, whole: _Encoded, empty: int) -> Parquet:
    more = whole.nbytes - half.nbytes
    if more <= 0:
        return Parquet(whole.file_bytes, 0.0, 0.0, 0.0)
    added = max(1, whole.file_bytes - half.file_bytes) / more
    on_average = max(1, whole.file_bytes - empty) / whole.nbytes
    return Parquet(
        once=max(0.0, whole.file_bytes - added * whole.nbytes),
        per_byte=added,
        spread=abs(math.log(on_average / added)) * OF_THE_WAY,
        secs_per_byte=(whole.secs - half.secs if whole.secs > half.secs else whole.secs / 2) / more,
    )
