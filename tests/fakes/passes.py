"""A pass in memory: extractors and writers that hold no data, only the sizes and the order of things."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import AmpdError, HandedBack
from ampd_ray.materialize.faults import Doubts
from ampd_ray.materialize.leaving import Leave
from ampd_ray.materialize.perform import Pass
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.state import JobState, Limits
from ampd_ray.materialize.types import ExtractSummary, RangeTask, WriterReport
from tests.fakes.local_work import never

TABLES = ("blocks",)
Hook = Callable[[Span], Awaitable[None]]


async def nothing(_: Span) -> None:
    """A hook that does nothing but let others run."""
    await asyncio.sleep(0)


async def stays(_: Span) -> Leave:
    """The notice of a writer whose machine stays."""
    return await never()


def whole(span: Span) -> Span:
    """What an extractor does of a span whose machine stays."""
    return span


@dataclass
class World:
    """What a pass works with, and what came of it. Each block takes ``block_bytes``, and is said to take so long."""

    block_bytes: int = 1000
    fetch_secs: float = 0.0
    decode_secs: float = 0.0
    tasks: int = 4
    doubts: Doubts = field(default_factory=Doubts)
    on_extract: Hook = nothing
    on_append: Hook = nothing
    on_flush: Hook = nothing
    on_open: Hook = nothing
    on_discard: Hook = nothing
    notice: Callable[[Span], Awaitable[Leave]] = stays
    done: Callable[[Span], Span | None] = whole
    extracted: list[Span] = field(default_factory=list)
    appended: list[Span] = field(default_factory=list)
    skipped: list[Span] = field(default_factory=list)
    set_aside: list[tuple[int, dict[int, AmpdError]]] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)  # tasks that there was work for, each time that it was asked
    flushes: list[tuple[Span, str]] = field(default_factory=list)
    discarded: list[Span] = field(default_factory=list)
    reports: list[WriterReport] = field(default_factory=list)
    held: int = 0  # bytes at extractors or extracted, not yet appended
    most_held: int = 0
    cancelled: int = 0

    def slots(self, wanted: int) -> int:
        self.wanted.append(wanted)
        return self.tasks

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Span]:
        nbytes = len(task.span) * self.block_bytes
        self._hold(nbytes)
        try:
            await self.on_extract(task.span)
        except asyncio.CancelledError:
            self.cancelled += 1
            self._hold(-nbytes)
            raise
        except BaseException:
            self._hold(-nbytes)
            raise
        done = self.done(task.span)
        self._hold((len(done) if done else 0) * self.block_bytes - nbytes)
        if done is None:
            raise HandedBack("nothing is done")
        self.extracted.append(done)
        count = len(done)
        secs = self.fetch_secs * count, self.decode_secs * count
        return ExtractSummary(done, {"blocks": count}, count * self.block_bytes, 1, 0, 0, *secs), done

    def _hold(self, nbytes: int) -> None:
        self.held += nbytes
        self.most_held = max(self.most_held, self.held)

    async def open(self, number: int, unit: Unit) -> Handle:
        await self.on_open(unit.span)
        return Handle(self, unit.span)

    def pass_over(self, *spans: Span, bytes_per_block: float | None = None, **limits: Any) -> Pass:
        units = [Unit(span, TABLES) for span in spans]
        machine = JobState(
            units, Limits(max_tasks=self.tasks, **limits), bytes_per_block=bytes_per_block, doubts=self.doubts
        )
        return Pass(
            machine,
            self,
            lambda number, unit, span, provider: RangeTask(1, number, span, unit.tables, str(provider), "test"),
            self.open,
            on_extracted=lambda summary: None,
            on_report=self.reports.append,
            set_aside=self.remember,
        )

    async def remember(self, block: int, faults: Mapping[int, AmpdError]) -> None:
        self.set_aside.append((block, dict(faults)))


class Handle:
    """A partition: spans that come early wait, as in a real writer."""

    def __init__(self, world: World, span: Span):
        self.world = world
        self.span = span
        self.next = span.start
        self.early: dict[int, Span] = {}

    async def append(self, span: Span) -> WriterReport:
        await self.world.on_append(span)
        self.early[span.start] = span
        done: list[Span] = []
        while (following := self.early.pop(self.next, None)) is not None:
            done.append(following)
            self.next = following.end + 1
            self.world._hold(-len(following) * self.world.block_bytes)
        self.world.appended += done
        finished = self.next > self.span.end
        return WriterReport(tuple(done), (), bool(done) and not finished, finished)

    async def skip(self, span: Span) -> WriterReport:
        self.world.skipped.append(span)
        return await self.append(span)

    async def flush(self, reason: str) -> WriterReport:
        self.world.flushes.append((self.span, reason))
        await self.world.on_flush(self.span)
        return WriterReport()

    async def discard(self) -> None:
        self.world.discarded.append(self.span)
        await self.world.on_discard(self.span)

    async def leaves(self) -> Leave:
        return await self.world.notice(self.span)


class Faults:
    """A hook that raises an error at each of these starts, once; ``fired`` counts."""

    def __init__(self, errors: dict[int, AmpdError | Exception]):
        self.errors = errors
        self.fired = 0

    async def __call__(self, span: Span) -> None:
        await asyncio.sleep(0)
        if (error := self.errors.pop(span.start, None)) is not None:
            self.fired += 1
            raise error
