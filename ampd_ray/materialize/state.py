"""Who extracts what next: the pure decisions of one pass over a plan.

A pass takes ascending units of work, opens a partition for each (at most ``max_partitions`` at a time), cuts them
into tasks and hands those out as credit allows. Events are facts about tasks and partitions, instructions are
orders to the doer (``perform.py``). Nothing here survives the pass: what a lost writer left undone is found again
by planning from Postgres.

States of a task: *extracting* (an extractor has it), *extracted* (its tables wait to be appended), gone (appended).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import ActorLost, AmpdError, Handling, OutOfMemory, Unverifiable
from ampd_ray.materialize.events import (
    Abandon,
    Append,
    Crashed,
    Event,
    Extract,
    Finish,
    Flush,
    Instruction,
    LeasesLapsed,
    LeasesRenewed,
    OfThePass,
    OpenPartition,
    PartitionFailed,
    PartitionFinished,
    PartitionOpened,
    SegmentCommitted,
    SetAside,
    StopAsked,
    TaskAppended,
    TaskExtracted,
    TaskFailed,
    TaskHandedBack,
    TaskLost,
    Tick,
    WriterLeaves,
    WriterLost,
)
from ampd_ray.materialize.faults import Doubts, around
from ampd_ray.materialize.plan import Unit

MAX_ATTEMPTS = {Handling.TRANSIENT: 5, Handling.BOUNDED: 2}
RETRY_SECS = 1.0  # before the second attempt; doubled with each, so that five take 15 seconds
MAX_LOSSES = 10  # of one span in a row: that so many Ray nodes are taken away from it is less likely than its fault
FIRST_TASK_BLOCKS = 16
LEAST_TASK_BLOCKS = 100  # unless so many are too many bytes; also the least for which a batch of requests is filled
MAX_TASK_BLOCKS = 2_000
TASK_BYTES = 16 << 20
TASK_SECS = 10.0  # what a lost task costs, and how long extractors that join find nothing left to do
LEAST_MEMORY_BYTES = 256 << 20  # room for tasks that turn out larger than those before them
GROWTH = 4
# Tasks at one extractor at a time: while the last blocks of one are waited for, those of the next are under way. At
# 200 ms those are more blocks than two tasks have.
TASKS_PER_EXTRACTOR = 4
# So many times as many, as long as their rows are few, with those that are done and wait for an earlier one: one that
# is slow, or was lost, is no reason for all others to wait.
AHEAD = 4


@dataclass(frozen=True)
class Limits:
    """Upper bounds of a pass. ``memory_bytes`` covers rows extracted or being extracted, not yet appended.

    Where it is not given it is what so many tasks need, so that it follows the number of extractors.
    """

    max_partitions: int = 1
    max_tasks: int = 4
    memory_bytes: int | None = None
    flush_secs: float = 600.0

    @property
    def room(self) -> int:
        """The bytes that may be held."""
        return memory_for(self.max_tasks) if self.memory_bytes is None else self.memory_bytes


def memory_for(tasks: int) -> int:
    """Bytes that a job may hold that has so many tasks under way."""
    return max(LEAST_MEMORY_BYTES, tasks * TASK_BYTES)


@dataclass
class _Task:
    """One span on its way; ``nbytes`` is an estimate until it is extracted.

    ``provider`` is asked now, after those whose data were wrong: ``faults``.
    """

    nbytes: float
    provider: int
    faults: dict[int, AmpdError]
    attempts: int = 0
    losses: int = 0
    extracted: bool = False
    refetched: bool = False


@dataclass
class _Open:
    """One open partition. ``queue`` holds spans not yet handed out, ascending; ``requeued`` how often each was lost.

    ``suspects`` are those of its spans that a provider has delivered wrongly. ``leaves``: its writer is about to go, so
    that nothing more is begun, and what is there is committed once all tasks are appended, or it is ``urgent``.
    """

    unit: Unit
    queue: deque[Span]
    opened: bool = False
    requeued: dict[Span, int] = field(default_factory=dict)
    suspects: dict[Span, dict[int, AmpdError]] = field(default_factory=dict)
    tasks: dict[Span, _Task] = field(default_factory=dict)
    dirty_since: float | None = None
    flushing: bool = False
    leaves: bool = False
    urgent: bool = False
    ending: bool = False

    @property
    def waits_for_its_writer(self) -> int:
        """How many tasks are done, with all that is before them."""
        missing = [span.start for span, task in self.tasks.items() if not task.extracted]
        if self.queue:
            missing.append(self.queue[0].start)
        lowest = min(missing, default=math.inf)
        return sum(span.start < lowest for span in self.tasks)

    @property
    def lacks_a_span(self) -> bool:
        """True if something under way cannot be appended before what was handed back below it."""
        return bool(self.tasks) and bool(self.queue) and self.queue[0] < max(self.tasks) and not self.ending

    @property
    def holds_rows(self) -> bool:
        """True if something was extracted that is not committed."""
        return self.dirty_since is not None or any(task.extracted for task in self.tasks.values())


class JobState:
    """The decisions of one pass. ``now`` is the clock at its start, in the seconds that ``Tick`` carries.

    ``doubts`` is what is known of the providers; it learns.
    """

    def __init__(
        self,
        units: Iterable[Unit],
        limits: Limits,
        *,
        bytes_per_block: float | None = None,
        secs_per_block: float | None = None,
        now: float = 0.0,
        doubts: Doubts | None = None,
    ):
        self._units = iter(units)
        self._limits = limits
        self._bytes_per_block = bytes_per_block
        self._secs_per_block = secs_per_block
        self._task_blocks = FIRST_TASK_BLOCKS
        self._most_blocks = MAX_TASK_BLOCKS  # fewer once so many were too much for an extractor
        self._open: dict[int, _Open] = {}
        self._next_partition = 0
        self._now = now
        self._doubts = doubts or Doubts()
        self._stopping = False
        self._paused = False
        self._finished = False
        self._lost_rows = False
        if bytes_per_block is not None:
            self._task_blocks = self._wanted_blocks()

    @property
    def bytes_per_block(self) -> float | None:
        """Arrow bytes a block, measured; None before the first extract."""
        return self._bytes_per_block

    @property
    def secs_per_block(self) -> float | None:
        """How long a task takes for a block, beside the other ones of its extractor; None before the first extract."""
        return self._secs_per_block

    @property
    def finished(self) -> bool:
        """True once ``Finish`` has been said."""
        return self._finished

    @property
    def cut_short(self) -> bool:
        """At the end of a pass: true if it was to stop, and gave up a partition whose rows were not committed."""
        return self._lost_rows or (self._stopping and any(part.holds_rows for part in self._open.values()))

    def holds_rows(self, number: int) -> bool:
        """True if something was extracted for an open partition that is not committed."""
        return number in self._open and self._open[number].holds_rows

    @property
    def starved(self) -> str:
        """What holds the pass back: ``rpc`` (tasks at extractors), ``writer`` (rows waiting), ``lease`` or ``idle``."""
        if self._paused:
            return "lease"
        tasks = [task for part in self._open.values() for task in part.tasks.values()]
        if not tasks:
            return "idle"
        extracting = sum(not task.extracted for task in tasks)
        return "writer" if sum(part.waits_for_its_writer for part in self._open.values()) > extracting else "rpc"

    @property
    def wanted_tasks(self) -> int:
        """How many tasks could be under way, if there were extractors enough for any number."""
        parts = self._open.values()
        tasks = [task for part in parts for task in part.tasks.values()]
        if self._stopping or self._paused or sum(task.nbytes for task in tasks) >= self._limits.room:
            return len(tasks)
        queued = sum(-(-len(span) // self._least_blocks) for part in parts for span in part.queue)
        return len(tasks) + queued

    def start(self) -> list[Instruction]:
        """The first instructions of the pass."""
        return self._advance()

    def on(self, event: Event) -> list[Instruction]:
        """Take one event; say what to do about it."""
        if self._finished or self._is_late(event):
            return []
        instructions = self._handle(event)
        return instructions if self.finished else instructions + self._advance()

    def _is_late(self, event: Event) -> bool:
        """True of an answer that was under way when its partition ended or was abandoned."""
        return not isinstance(event, OfThePass | Crashed) and event.partition not in self._open

    def _handle(self, event: Event) -> list[Instruction]:
        match event:
            case Tick() | StopAsked() | LeasesLapsed() | LeasesRenewed():
                return self._handle_of_the_pass(event)
            case PartitionFailed(_, error) | Crashed(error):
                return self._fail(error)
        part = self._open[event.partition]
        match event:
            case PartitionOpened():
                part.opened = True
            case TaskExtracted(number, span, nbytes, secs) if span in part.tasks:
                return self._extracted(number, part, span, nbytes, secs)
            case TaskFailed(number, span, error) if span in part.tasks:
                return self._failed(number, part, span, error)
            case TaskLost(number, span, out_of_memory) if span in part.tasks:
                return self._lose(number, part, span, out_of_memory=out_of_memory)
            case TaskHandedBack(number, span, done, nbytes) if span in part.tasks:
                return self._handed_back(number, part, span, done, nbytes)
            case TaskAppended(_, spans):
                for span in spans:
                    part.tasks.pop(span, None)
                if spans and part.dirty_since is None:
                    part.dirty_since = self._now
            case SegmentCommitted(_, still_open):
                part.dirty_since = self._now if still_open else None
                part.flushing = False
            case PartitionFinished(number):
                del self._open[number]
            case WriterLost(number):
                self._lost_rows |= self._stopping and part.holds_rows
                del self._open[number]
                return [Abandon(number)]
            case WriterLeaves(_, now):
                part.leaves, part.urgent = True, part.urgent or now
        return []

    def _handle_of_the_pass(self, event: OfThePass) -> list[Instruction]:
        match event:
            case Tick(now, max_tasks):
                self._now = now
                self._limits = replace(self._limits, max_tasks=max(1, max_tasks))
                return self._flush_old()
            case StopAsked():
                return self._stop()
            case LeasesLapsed() | LeasesRenewed():
                self._paused = isinstance(event, LeasesLapsed)
                return []

    # -- dispatch -------------------------------------------------------------------------------------------------

    def _advance(self) -> list[Instruction]:
        """Open partitions and hand out tasks as far as the limits allow; finish when nothing is left."""
        instructions: list[Instruction] = []
        while not self._stopping and len(self._open) < self._limits.max_partitions:
            unit = next(self._units, None)
            if unit is None:
                break
            self._open[self._next_partition] = _Open(unit, deque([unit.span]))
            instructions.append(OpenPartition(self._next_partition, unit))
            self._next_partition += 1
        while (number := self._next_to_feed()) is not None:
            part = self._open[number]
            span = self._take(part)
            nbytes = len(span) * (self._bytes_per_block or 0.0)
            faults = part.suspects.pop(span, {})
            provider = self._doubts.next_provider(faults)
            assert provider is not None, "a block that nobody delivers is set aside at once"
            part.tasks[span] = _Task(nbytes, provider, faults, losses=part.requeued.pop(span, 0))
            instructions.append(Extract(number, span, provider=provider))
        instructions += self._end_leaving()
        if not self._open:
            self._finished = True
            instructions.append(Finish())
        return instructions

    def _next_to_feed(self) -> int | None:
        """The open partition that gets the next task, or None.

        Of the partitions with work left the one with the fewest tasks under way, the lowest first. The byte budget
        never holds back a partition's lowest outstanding span: its writer waits for just that one, and what is
        extracted waits for the writer, however few tasks may be under way by now.
        """
        if self._stopping or self._paused:
            return None
        tasks = [task for part in self._open.values() for task in part.tasks.values()]
        extracting = sum(not task.extracted for task in tasks)
        held = sum(task.nbytes for task in tasks)
        most = self._limits.max_tasks
        ahead = len(tasks) < most * AHEAD and held < most * TASK_BYTES
        ready = [
            (len(part.tasks), number)
            for number, part in self._open.items()
            if part.opened and part.queue and (not part.leaves or part.lacks_a_span)
        ]
        for _, number in sorted(ready):
            part = self._open[number]
            urgent = not part.tasks or part.queue[0] < min(part.tasks)
            room = held < self._limits.room and (len(tasks) < most or (extracting < most and ahead))
            if room or (urgent and extracting < most + len(self._open)):
                return number
        return None

    def _take(self, part: _Open) -> Span:
        """Cut the next task off the partition's queue; a requeued span stays as it is.

        What is left is enough for all that may be under way, down to a size below which it is not worth while: else the
        last tasks of small blocks keep one extractor busy, and all others wait.
        """
        fair = -(-sum(map(len, part.queue)) // self._limits.max_tasks)
        size = max(min(self._task_blocks, fair), self._least_blocks)
        span = part.queue.popleft()
        if span in part.requeued or len(span) <= size:
            return span
        part.queue.appendleft(Span(span.start + size, span.end))
        return Span(span.start, span.start + size - 1)

    def _extracted(
        self, number: int, part: _Open, span: Span, nbytes: int, secs: float | None = None
    ) -> list[Instruction]:
        self._measure(span, nbytes, secs)
        task = part.tasks[span]
        task.extracted, task.nbytes = True, nbytes
        self._doubts.delivered(task.provider, task.faults, len(span))
        return [Append(number, span)]

    def _handed_back(self, number: int, part: _Open, span: Span, done: Span | None, nbytes: int) -> list[Instruction]:
        """Keep what is done; the rest goes to another extractor, and nobody is charged."""
        task = part.tasks.pop(span)
        rest = span if done is None else Span(done.end + 1, span.end)
        self._requeue(part, {rest: task.losses})
        if done is None:
            if task.faults:
                part.suspects[span] = task.faults
            return []
        part.tasks[done] = task
        return self._extracted(number, part, done, nbytes)

    # -- measuring and retrying -----------------------------------------------------------------------------------

    def _measure(self, span: Span, nbytes: int, secs: float | None) -> None:
        """Follow the chain's density, and the time that blocks take where they come from, unless they were cut short.

        A task may grow to four times the last one, so that a wrong guess stays small.
        """
        self._bytes_per_block = _follow(self._bytes_per_block, nbytes / len(span))
        if secs is not None:
            self._secs_per_block = _follow(self._secs_per_block, secs / len(span))
        self._task_blocks = min(self._wanted_blocks(), max(self._task_blocks, len(span)) * GROWTH)

    @property
    def _least_blocks(self) -> int:
        return min(self._task_blocks, LEAST_TASK_BLOCKS)

    def _wanted_blocks(self) -> int:
        fit = max(1, TASK_BYTES // max(self._bytes_per_block or 1.0, 1.0))
        in_time = max(LEAST_TASK_BLOCKS, TASK_SECS / (self._secs_per_block or 1e-9))
        return int(min(self._most_blocks, fit, in_time))

    def _failed(self, number: int, part: _Open, span: Span, error: AmpdError) -> list[Instruction]:
        """Wrong data are asked of the next provider, and so is what it cannot deliver; all else is asked again."""
        task = part.tasks[span]
        tried = task.attempts + 1 >= MAX_ATTEMPTS[Handling.BOUNDED] or not error.retryable
        elsewhere = self._doubts.helps_against(error) or (task.faults and tried)
        if elsewhere and not isinstance(error, Unverifiable):
            return self._elsewhere(number, part, span, error)
        return self._again(number, part, span, error)

    def _again(self, number: int, part: _Open, span: Span, error: AmpdError) -> list[Instruction]:
        """Charge the failure to the task; ask again after a pause, or give the job up."""
        task = part.tasks[span]
        task.attempts += 1
        if task.attempts >= MAX_ATTEMPTS.get(error.handling, 1):
            return self._fail(error)
        return [Extract(number, span, delay=RETRY_SECS * 2 ** (task.attempts - 1), provider=task.provider)]

    def _elsewhere(self, number: int, part: _Open, span: Span, error: AmpdError) -> list[Instruction]:
        """Only the block that is wrong goes to the next provider; what nobody delivers is done without."""
        task = part.tasks[span]
        refetched = bool(task.faults) or task.refetched or "tries" in error.details
        if len(span) == 1 and not refetched:
            task.refetched = True
            return [Extract(number, span, delay=RETRY_SECS, provider=task.provider)]
        del part.tasks[span]
        pieces, wrong = around(span, error.details.get("block")) if len(span) > 1 else ([], span)
        self._task_blocks = min(self._task_blocks, FIRST_TASK_BLOCKS)  # more may be wrong beside it
        part.queue = deque(sorted([*part.queue, *pieces]))
        if wrong is None:
            return []
        faults = {**task.faults, task.provider: error} if refetched else {}
        if self._doubts.next_provider(faults) is not None:
            part.suspects[wrong] = faults
            self._requeue(part, {wrong: task.losses})
            return []
        first = next(iter(faults.values()))
        if not self._doubts.may_set_aside(faults.values()):
            return self._fail(first)
        if not self._doubts.set_aside(wrong.start, first):
            return self._fail(self._doubts.despair())
        return [SetAside(number, wrong.start, faults)]

    def _lose(self, number: int, part: _Open, span: Span, *, out_of_memory: bool) -> list[Instruction]:
        """An extractor died with the task: its span goes to another one, smaller if it was too large.

        Nobody is charged for a Ray node that goes; a span that takes its extractor with it each time ends the job.
        """
        if out_of_memory and len(span) == 1:
            return self._again(
                number, part, span, OutOfMemory(f"block {span.start} alone is too much for an extractor")
            )
        task = part.tasks.pop(span)
        losses = task.losses + 1
        if losses >= MAX_LOSSES:
            return self._fail(
                ActorLost(f"blocks {span} lost their extractor {losses} times in a row; its log says why")
            )
        if not out_of_memory:
            if task.faults:
                part.suspects[span] = task.faults
            self._requeue(part, {span: losses})
            return []
        middle = span.start + len(span) // 2
        self._most_blocks = min(self._most_blocks, len(span) // 2)
        self._task_blocks = min(self._task_blocks, self._most_blocks)
        self._requeue(part, {Span(span.start, middle - 1): 0, Span(middle, span.end): 0})
        return []

    def _requeue(self, part: _Open, pieces: Mapping[Span, int]) -> None:
        """Put spans back where they belong, before all later ones."""
        part.requeued.update(pieces)
        part.queue = deque(sorted([*part.queue, *pieces]))

    # -- ending ---------------------------------------------------------------------------------------------------

    def _flush_old(self) -> list[Instruction]:
        instructions: list[Instruction] = []
        for number, part in self._open.items():
            since = part.dirty_since
            if since is not None and not part.flushing and self._now - since >= self._limits.flush_secs:
                part.flushing = True
                instructions.append(Flush(number, "age"))
        return instructions

    def _end_leaving(self) -> list[Instruction]:
        """A partition whose writer is about to go ends with what it has; the next pass plans the rest."""
        instructions: list[Instruction] = []
        for number, part in self._open.items():
            over = part.leaves and (part.urgent or not part.tasks)
            if over and not part.ending and not self._stopping:
                part.ending = True
                instructions.append(Flush(number, "leave"))
        return instructions

    def _stop(self) -> list[Instruction]:
        """Each partition commits what it holds and ends there."""
        if self._stopping:
            return []
        self._stopping = True
        return [Flush(number, "stop") for number in self._open]

    def _fail(self, error: AmpdError) -> list[Instruction]:
        self._finished = True
        return [*(Abandon(number) for number in self._open), Finish(error)]

    def validate(self) -> None:
        """Invariants; the tests call this after every event."""
        assert len(self._open) <= self._limits.max_partitions
        for part in self._open.values():
            spans = sorted([*part.queue, *part.tasks])
            assert all(a.end < b.start for a, b in pairwise(spans)), "a block is on two ways"
            assert all(part.unit.span.start <= s.start and s.end <= part.unit.span.end for s in spans)


def _follow(old: float | None, measured: float) -> float:
    return measured if old is None else 0.7 * old + 0.3 * measured
