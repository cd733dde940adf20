"""From a sample to what all of it takes; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ampd_ray.chain.ranges import Span, merge, subtract, union
from ampd_ray.client.planning.layout import Density, Layout, Rules, lay_out
from ampd_ray.client.planning.pace import Bound, Machine, Work, pace
from ampd_ray.client.planning.seen import Parquet, Run, Sample
from ampd_ray.client.planning.strata import Estimate, Stratum, reaching, together, total
from ampd_ray.providers.provider import BLOCK, BLOCK_RECEIPTS, RECEIPT, Price

FILE_SPREAD = 0.03  # of files, beside that of their rows and of what those take
TIME_SPREAD = 0.2  # of the time after its work is known: other machines, others on this one


@dataclass(frozen=True)
class Target:
    """Where it would run: the writers' and the provider's settings, and what there is of this machine."""

    writers: int
    segment_bytes: int
    row_group_bytes: int
    flush_secs: float
    memory_bytes: int
    per_minute: int | None
    in_flight: int
    extractors: int
    cores: int | None
    begin_secs: float


@dataclass(frozen=True)
class Pace:
    """``seconds`` with so many ``extractors``, and the ``limit`` then; ``here``: on this machine, with its cores."""

    extractors: int
    seconds: Estimate
    limit: str
    here: bool = False


@dataclass(frozen=True)
class Figures:
    """All that is said of the blocks to extract. ``calls`` by method, ``rows`` by table; ``wire_bytes`` are of JSON."""

    blocks: int
    units: int
    tasks: int
    calls: Mapping[str, Estimate]
    requests: Estimate
    wire_bytes: Estimate
    rows: Mapping[str, Estimate]
    files: Mapping[str, int]
    parquet_bytes: Estimate
    times: Sequence[Pace]


class Estimator:
    """``missing``: the blocks that each table lacks, all of them in ``strata``; some of those were looked at."""

    def __init__(
        self,
        missing: Mapping[str, Sequence[Span]],
        strata: Sequence[Stratum],
        sample: Sample,
        parquet: Mapping[str, Parquet],
    ) -> None:
        self._missing = {table: merge(spans) for table, spans in missing.items()}
        self._strata = strata
        self._sample = sample
        self._parquet = parquet
        self._seen = sorted(sample.runs)
        self._stand_in = reaching(strata, [i in sample.runs for i in range(len(strata))])
        self._all = union(*self._missing.values())
        self._weights = {table: self._weigh(spans) for table, spans in self._missing.items()} | {
            None: self._weigh(self._all)
        }

    def figures(self, target: Target, numbers: Sequence[int]) -> Figures:
        """With so many extractors each, and with those of this machine."""
        blocks = sum(map(len, self._all))
        rows = {table: self._rows(table) for table in self._missing}
        arrow = {table: self._of_table(table, [run.arrow_bytes[table] for run in self._runs()]) for table in rows}
        receipts = self._total([run.receipt_calls for run in self._runs()])
        wire = self._total([run.wire_bytes for run in self._runs()])
        layout, work = self._at_its_speed(target, blocks, receipts, wire, arrow)
        method = RECEIPT if self._sample.per_transaction else BLOCK_RECEIPTS
        return Figures(
            blocks=blocks,
            units=round(layout.units),
            tasks=round(layout.tasks),
            calls={BLOCK: Estimate.exactly(blocks), method: receipts},
            requests=self._requests(layout.parts, blocks, receipts),
            wire_bytes=wire,
            rows=rows,
            files={table: round(files) for table, files in layout.files.items()},
            parquet_bytes=self._file_bytes(arrow, layout, target),
            times=self._times(work, target, numbers, wire),
        )

    # -- totals ---------------------------------------------------------------------------------------------------

    def _runs(self) -> list[Run]:
        return [self._sample.runs[i] for i in self._seen]

    def _weigh(self, spans: Sequence[Span]) -> list[int]:
        """How many of ``spans`` each of the runs stands for."""
        found = dict.fromkeys(self._seen, 0)
        for stratum, stand_in in zip(self._strata, self._stand_in, strict=True):
            found[stand_in] += len(stratum) - sum(map(len, subtract(stratum.blocks, spans)))
        return [found[i] for i in self._seen]

    def _total(self, counts: Sequence[float], table: str | None = None) -> Estimate:
        """Over the blocks that the table lacks, else over all."""
        return total(self._weights[table], [len(run.span) for run in self._runs()], counts)

    def _of_table(self, table: str, counts: Sequence[float]) -> Estimate:
        return self._total(counts, table)

    def _rows(self, table: str) -> Estimate:
        if table == "blocks":
            return Estimate.exactly(sum(map(len, self._missing[table])))
        return self._of_table(table, [run.rows[table] for run in self._runs()])

    def _requests(self, parts: float, blocks: int, receipts: Estimate) -> Estimate:
        """One for the blocks of a part; as many for their receipts as go into batches of that size."""
        size = self._sample.batch_size
        if size == 1:
            return receipts.plus(blocks)
        if self._sample.per_transaction:
            return receipts.times(1 / size).plus(parts)
        having = [run.receipt_calls / len(run.span) for run in self._runs()]
        weights = self._weights[None]
        share = sum(w * (1 - (1 - min(1.0, p)) ** size) for w, p in zip(weights, having, strict=True)) / max(1, blocks)
        return Estimate.exactly(parts * (1 + share)).blurred(0.01)

    def _file_bytes(self, arrow: Mapping[str, Estimate], layout: Layout, target: Target) -> Estimate:
        """What each row group takes at the least, and what its rows add."""
        parts = []
        for table, nbytes in arrow.items():
            of = self._parquet[table]
            groups = max(layout.files[table], nbytes.value / target.row_group_bytes)
            parts.append(nbytes.times(of.per_byte).blurred(of.spread).plus(of.once * groups))
        return together(parts).blurred(FILE_SPREAD)

    # -- time -----------------------------------------------------------------------------------------------------

    def _at_its_speed(
        self, target: Target, blocks: int, receipts: Estimate, wire: Estimate, arrow: Mapping[str, Estimate]
    ) -> tuple[Layout, Work]:
        """Files end by age as well, which depends on the speed, and that on tasks and units: two rounds settle it."""
        layout, work = Layout(), None
        speed = float("inf")
        for _ in range(2):
            layout = self._layout(target, speed)
            work = self._work(target, layout, blocks, receipts, wire, arrow)
            speed = blocks / max(pace(work, target.extractors, self._machine(target)).seconds, 1e-9)
        assert work is not None
        return layout, work

    def _machine(self, target: Target) -> Machine | None:
        return None if target.cores is None else Machine(target.cores, self._sample.crowding)

    def _layout(self, target: Target, blocks_a_sec: float) -> Layout:
        rules = Rules(
            writers=target.writers,
            segment_bytes=target.segment_bytes,
            flush_secs=target.flush_secs,
            blocks_a_sec=blocks_a_sec,
            batch_size=self._sample.batch_size,
            finalized=self._sample.finalized,
        )
        return lay_out(self._missing, self._density(lambda table: 1.0), self._density(self._per_byte), rules)

    def _per_byte(self, table: str) -> float:
        return self._parquet[table].per_byte

    def _density(self, factor: Callable[[str], float]) -> Density:
        runs = [self._sample.runs[i] for i in self._stand_in]
        return Density(
            [(stratum.blocks or (stratum.run,))[0].start for stratum in self._strata],
            {
                table: [factor(table) * run.arrow_bytes[table] / len(run.span) for run in runs]
                for table in self._missing
            },
        )

    def _work(
        self,
        target: Target,
        layout: Layout,
        blocks: int,
        receipts: Estimate,
        wire: Estimate,
        arrow: Mapping[str, Estimate],
    ) -> Work:
        sample = self._sample
        cpu_per_byte = sample.cpu_secs / sample.cpu_bytes if sample.cpu_bytes else 0.0
        return Work(
            blocks=blocks,
            parts=layout.parts,
            requests=self._requests(layout.parts, blocks, receipts).value,
            trips=1 + min(1.0, receipts.value / max(1, blocks)),
            latency_secs=sample.latency_secs,
            part_bytes=sample.batch_size * wire.value / max(1, blocks) / 2,
            arrow_bytes_a_block=sum(each.value for each in arrow.values()) / max(1, blocks),
            batch_size=sample.batch_size,
            task_blocks=max(1.0, layout.task_blocks),
            tasks=layout.tasks,
            units=layout.units,
            extract_secs=cpu_per_byte * wire.value,
            write_secs=sum(each.value * self._parquet[table].secs_per_byte for table, each in arrow.items()),
            writers=target.writers,
            per_minute=target.per_minute,
            in_flight=target.in_flight,
            memory_bytes=target.memory_bytes,
            begin_secs=target.begin_secs,
        )

    def _times(self, work: Work, target: Target, numbers: Sequence[int], wire: Estimate) -> list[Pace]:
        def timed(bound: Bound, extractors: int, *, here: bool = False) -> Pace:
            crowding = self._sample.crowding if here else 1.0  # who else is busy now may not be so later
            seconds = Estimate.about(bound.seconds, wire.spread).blurred(TIME_SPREAD * crowding)
            return Pace(extractors, seconds, bound.name, here)

        found = [timed(pace(work, target.extractors, self._machine(target)), target.extractors, here=True)]
        return found[: 0 if target.cores is None else 1] + [timed(pace(work, number), number) for number in numbers]


def bill(calls: Mapping[str, Estimate], price: Price) -> tuple[Estimate, Estimate]:
    """Compute units, and what they cost."""
    units = together(calls[method].times(price.units_of(method)) for method in calls)
    return units, units.times(price.per_million_units / 1e6)


def without(strata: Sequence[Stratum], spans: Sequence[Span]) -> list[Stratum]:
    """The same strata without blocks that nobody serves; one of them may be empty then."""
    return [replace(stratum, blocks=tuple(subtract(stratum.blocks, spans))) for stratum in strata]
