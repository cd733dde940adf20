"""The doer of :mod:`ampd_ray.materialize.state`: carries out one pass.

Each instruction becomes an asyncio task; what comes of it is the next event. The events wait in one queue, so
decisions are taken one at a time and nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

from ampd_ray import failpoints
from ampd_ray.chain.ranges import Span
from ampd_ray.errors import ActorLost, AmpdError, HandedBack, Handling, RowsLost, Unexpected
from ampd_ray.materialize import events
from ampd_ray.materialize.leaving import Leave
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.state import JobState
from ampd_ray.materialize.types import ExtractSummary, RangeTask, WriterReport

logger = logging.getLogger(__name__)

TICK_SECS = 1.0
DISCARD_SECS = 5.0  # a commit in trouble may hold its writer longer; what that leaves in staging is cleared later
LATE_DISCARD_SECS = 0.5  # the same for a commit that the stop has waited for already


class Extractors(Protocol):
    """The extractors that this node can use, however many there are."""

    def slots(self, wanted: int) -> int:
        """How many tasks may be under way of those ``wanted`` by the caller, who says so again and again.

        All that can be had is its, until others want some as well; 0 says that it is done for now.
        """

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Any]:
        """Extract on the least loaded one. The second value is a handle of the rows, for a writer.

        They may be of the first blocks only. Raises ``HandedBack`` if of none, ``ActorLost`` if the extractor died,
        else what the extraction raised.
        """


class WriterHandle(Protocol):
    """A partition at a writer. All calls raise ``ActorLost`` if the writer vanished."""

    async def append(self, rows: Any) -> WriterReport:
        """Pass extracted rows on, by their handle. Raises ``RowsLost`` if they never came to the writer."""

    async def skip(self, span: Span) -> WriterReport:
        """Do without these blocks."""

    async def flush(self, reason: str) -> WriterReport:
        """Commit what the open file holds."""

    async def discard(self) -> None:
        """Drop what is not committed, and the partition."""

    async def leaves(self) -> Leave:
        """Returns once the machine of the writer is about to go."""


MakeTask = Callable[[int, Unit, Span, int], RangeTask]
OpenWriter = Callable[[int, Unit], Awaitable[WriterHandle]]
SetAside = Callable[[int, Mapping[int, AmpdError]], Awaitable[None]]


class Pass:
    """One pass over a plan. ``on_extracted`` and ``on_report`` hear of progress as it happens.

    ``set_aside`` remembers a block that is done without, and why, for good.
    """

    def __init__(
        self,
        machine: JobState,
        extractors: Extractors,
        make_task: MakeTask,
        open_writer: OpenWriter,
        *,
        on_extracted: Callable[[ExtractSummary], None],
        on_report: Callable[[WriterReport], None],
        set_aside: SetAside,
    ):
        self._machine = machine
        self._extractors = extractors
        self._make_task = make_task
        self._open_writer = open_writer
        self._on_extracted = on_extracted
        self._on_report = on_report
        self._remember = set_aside
        self._events: asyncio.Queue[events.Event] = asyncio.Queue()
        self._units: dict[int, Unit] = {}
        self._writers: dict[int, WriterHandle] = {}
        self._watches: dict[int, asyncio.Task[None]] = {}
        self._gone_at: dict[int, float] = {}
        self._rows: dict[tuple[int, Span], Any] = {}
        self._running: dict[asyncio.Task[None], int | None] = {}
        self._extracting: set[asyncio.Task[None]] = set()
        self._stop_secs = 0.0
        self._late = False
        self.replan = False

    @property
    def cut_short(self) -> bool:
        """True after a stop that gave up a partition, whatever the reason, before all its rows were committed."""
        return self._late or self._machine.cut_short

    def stop(self, deadline_secs: float) -> None:
        """Commit what can be committed within ``deadline_secs``, and end; extractions under way are dropped."""
        self._stop_secs = deadline_secs
        self._events.put_nowait(events.StopAsked())

    def leases_changed(self, good: bool) -> None:
        """Hand out no more work until the leases are ``good`` again; what is under way goes on."""
        self._events.put_nowait(events.LeasesRenewed() if good else events.LeasesLapsed())

    async def run(self) -> AmpdError | None:
        """Run to the end; the error that ends the job, if there was one."""
        self._start(self._tick(), None)
        try:
            instructions = self._machine.start()
            while True:
                for instruction in instructions:
                    logger.debug("instruction", extra={"instruction": instruction})
                    if isinstance(instruction, events.Finish):
                        return instruction.error
                    self._carry_out(instruction)
                event = await self._events.get()
                logger.debug("event", extra={"event": event})
                if isinstance(event, events.StopAsked):
                    for task in list(self._extracting):
                        task.cancel()
                instructions = self._machine.on(event)
        finally:
            self._extractors.slots(0)
            await _to_its_end(self._clean_up())

    async def _clean_up(self) -> None:
        """Leave nothing running and give every partition back: what a writer still held would count as its load."""
        while self._running:  # a task may have started another one before it was cancelled
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running)
        await asyncio.gather(*(self._discard(number) for number in list(self._writers)))
        self._rows.clear()

    # -- instructions ---------------------------------------------------------------------------------------------

    def _carry_out(self, instruction: events.Instruction) -> None:
        match instruction:
            case events.OpenPartition(number, unit):
                self._units[number] = unit
                self._start(self._open(number, unit), number)
            case events.Extract(number, span, delay, provider):
                task = self._start(self._extract(number, span, delay, provider), number)
                self._extracting.add(task)
                task.add_done_callback(self._extracting.discard)
            case events.Append(number, span):
                self._start(self._append(number, span), number)
            case events.SetAside(number, block, faults):
                self._start(self._set_aside(number, block, faults), number)
            case events.Flush(number, reason):
                self._start(self._flush(number, reason), number)
            case events.Abandon(number):
                self._abandon(number)

    def _start(self, work: Coroutine[Any, Any, None], number: int | None) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running[task] = number
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """An exception that nobody foresaw must end the pass, not vanish with its task."""
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("unexpected failure in a pass", exc_info=error)
            self._events.put_nowait(events.Crashed(Unexpected.of(error)))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECS)
            slots = self._extractors.slots(self._machine.wanted_tasks)
            self._events.put_nowait(events.Tick(time.monotonic(), slots))

    async def _open(self, number: int, unit: Unit) -> None:
        try:
            self._writers[number] = await self._open_writer(number, unit)
        except AmpdError as error:
            self._writer_failed(number, error)
        else:
            self._watches[number] = self._start(self._watch(number, self._writers[number]), number)
            self._events.put_nowait(events.PartitionOpened(number))

    async def _watch(self, number: int, writer: WriterHandle) -> None:
        """Say when the writer's machine is about to go, and when it has to commit."""
        leave, now = await writer.leaves(), asyncio.get_running_loop().time()
        logger.info("a writer's machine is about to go", extra={"partition": number, "in_secs": round(leave.gone, 1)})
        self._gone_at[number] = now + leave.gone
        self._events.put_nowait(events.WriterLeaves(number))
        await asyncio.sleep(leave.commit)
        self._events.put_nowait(events.WriterLeaves(number, now=True))

    async def _extract(self, number: int, span: Span, delay: float, provider: int) -> None:
        try:
            await asyncio.sleep(delay)
            task = self._make_task(number, self._units[number], span, provider)
            summary, rows = await self._extractors.extract(task)
            await failpoints.reach("task-returned")
        except HandedBack:
            self._events.put_nowait(events.TaskHandedBack(number, span))
        except ActorLost as error:
            logger.warning("an extractor was lost; its blocks go to another", extra={"span": span, "error": error})
            self._events.put_nowait(events.lost(number, span, error))
        except AmpdError as error:
            logger.warning("blocks could not be extracted", extra={"span": span, "error": error})
            self._events.put_nowait(events.TaskFailed(number, span, error))
        else:
            done = summary.span
            self._rows[number, done] = rows
            self._on_extracted(summary)
            if done == span:
                secs = summary.fetch_secs + summary.decode_secs
                self._events.put_nowait(events.TaskExtracted(number, span, summary.nbytes, secs))
            else:
                logger.info("an extractor handed back what it had", extra={"span": span, "done": done})
                self._events.put_nowait(events.TaskHandedBack(number, span, done, summary.nbytes))

    async def _append(self, number: int, span: Span) -> None:
        rows = self._rows.pop((number, span))
        writer = self._writers.get(number)
        if writer is None:  # its partition was stopped meanwhile
            return
        try:
            report = await writer.append(rows)
        except RowsLost as error:
            logger.warning("rows were lost; their blocks are extracted again", extra={"span": span, "error": error})
            self._events.put_nowait(events.lost(number, span, error))
        except AmpdError as error:
            self._writer_failed(number, error)
        else:
            self._report(number, report)

    async def _set_aside(self, number: int, block: int, faults: Mapping[int, AmpdError]) -> None:
        """First it is remembered, then done without: a block that is merely missing would be planned again."""
        try:
            await self._remember(block, faults)
            if number in self._writers:
                self._report(number, await self._writers[number].skip(Span(block, block)))
        except AmpdError as error:
            self._writer_failed(number, error)

    async def _flush(self, number: int, reason: str) -> None:
        """Commit the open file; unless that is for its age, the partition ends with it."""
        report, within, ends = None, DISCARD_SECS, reason != "age"
        if reason == "leave":
            self._drop_extractions(number)
        try:
            if number in self._writers:
                limit = {"stop": self._stop_secs, "leave": self._secs_left(number)}.get(reason)
                report = await asyncio.wait_for(self._writers[number].flush("stop" if ends else reason), limit)
        except TimeoutError:
            if reason == "leave":
                self._writer_failed(number, ActorLost("the writer's machine goes before it has committed"))
                return
            facts = {"partition": number, "within_secs": self._stop_secs}
            logger.warning("blocks were not committed before the stop", extra=facts)
            within = LATE_DISCARD_SECS
            self._late |= self._machine.holds_rows(number)
        except AmpdError as error:
            self._writer_failed(number, error)
            return
        if report is not None:
            self._report(number, report)
            if reason == "age" and not report.committed:  # there was nothing but blocks that are done without
                self._events.put_nowait(events.SegmentCommitted(number, report.open))
        if ends and not (report and report.finished):
            await self._finish(number, within)

    def _report(self, number: int, report: WriterReport) -> None:
        self._on_report(report)
        self._events.put_nowait(events.TaskAppended(number, report.appended))
        if report.committed:
            self._events.put_nowait(events.SegmentCommitted(number, report.open))
        if report.finished:
            self._start(self._finish(number), None)

    async def _finish(self, number: int, within_secs: float = DISCARD_SECS) -> None:
        """The writer gives the partition back before the next one is opened: no more are open than asked for."""
        await self._discard(number, within_secs)
        self._events.put_nowait(events.PartitionFinished(number))

    def _writer_failed(self, number: int, error: AmpdError) -> None:
        """What time or another plan can mend is planned again; everything else ends the job."""
        if error.handling is Handling.TRANSIENT:
            logger.warning(
                "a writer was lost; its blocks are planned again", extra={"partition": number, "error": error}
            )
            self.replan = True
            self._events.put_nowait(events.WriterLost(number))
        else:
            self._events.put_nowait(events.PartitionFailed(number, error))

    def _secs_left(self, number: int) -> float | None:
        """Until the writer's machine goes."""
        at = self._gone_at.get(number)
        return None if at is None else at - asyncio.get_running_loop().time()

    def _drop_extractions(self, number: int) -> None:
        """Nobody waits for those any more that have not ended by now."""
        for task in self._extracting:
            if self._running.get(task) == number:
                task.cancel()

    def _abandon(self, number: int) -> None:
        for task, owner in list(self._running.items()):
            if owner == number:
                task.cancel()
        self._start(self._discard(number), None)

    async def _discard(self, number: int, within_secs: float = DISCARD_SECS) -> None:
        for key in [key for key in self._rows if key[0] == number]:
            del self._rows[key]
        if (watch := self._watches.pop(number, None)) is not None:
            watch.cancel()
        writer = self._writers.pop(number, None)
        if writer is not None:
            with contextlib.suppress(AmpdError, TimeoutError):
                await asyncio.wait_for(writer.discard(), within_secs)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` however often we are cancelled meanwhile; the cancellation goes on after it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
