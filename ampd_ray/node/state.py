"""What a node does about each job, as a pure machine over the tables of :mod:`ampd_ray.node.tables`.

Events (facts) go in, instructions (orders) come out. Two rules keep the machine small:

* **The row decides.** Notifications, the periodic pass and the end of a task only lead to ``ReadRow``; what to do
  follows from the row that is then read.
* **After writing, read.** The doer answers every ``Settle`` with the row as it is afterwards. Success, a conflict and
  an unknown COMMIT outcome are then one case, and no acknowledgement has to be remembered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, Fenced
from ampd_ray.materialize.types import JobOutcome
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.node.events import (
    DropJob,
    Event,
    Exit,
    Instruction,
    JobEnded,
    LeaseLost,
    Notified,
    ReadRow,
    Reconciled,
    Row,
    RowRead,
    Settle,
    ShutdownAsked,
    StartJob,
    StopJob,
)
from ampd_ray.node.tables import NEXT_PHASE, SEEN, WITH_TASK, WITHOUT_TASK, Action, Phase, Seen, after_end, orders

# Before a job is started again whose run ended though it should go on; doubled with each such end in a row.
RESTART_SECS: Final = 0.5
RESTART_MAX_SECS: Final = 30.0


@dataclass(slots=True)
class Task:
    """The local run of one job. ``outcome`` is set when it has ended."""

    descriptor: JobDescriptor
    phase: Phase = Phase.RUNNING
    outcome: JobOutcome | None = None


class NodeState:
    """All jobs of one node. Feed it facts, carry out what it returns, in order."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.draining = False
        self.fenced = False
        self._cut_short = False
        self._exit_said = False
        self._cut_off: Counter[int] = Counter()  # runs in a row that ended though their rows said RUNNING

    @property
    def exit_code(self) -> int:
        """That of a drained node: 1 if a run had to drop what it had extracted (``spec/metadata-db.md`` 9.4)."""
        return 1 if self._cut_short else 0

    def handle(self, event: Event) -> list[Instruction]:
        """What to do now that ``event`` has happened."""
        match event:
            case JobEnded(job_id) if self.fenced:
                self.tasks.pop(job_id, None)
                return []
            case _ if self.fenced:
                return []
            case LeaseLost():
                return self._lease_lost()
            case ShutdownAsked():
                return self._shutdown_asked()
            case _:
                return self._job_event(event)

    def validate(self) -> None:
        """Check what must hold between events."""
        for job_id, task in self.tasks.items():
            assert (task.outcome is not None) == (task.phase is Phase.ENDED), f"job {job_id}: {task}"
            assert not (self.draining and task.phase is Phase.RUNNING), f"job {job_id} runs on while draining"
            assert not self.fenced or task.phase is Phase.DROPPED, f"job {job_id} runs on though fenced"
        assert not (self.draining and not self.tasks and not self.fenced) or self._exit_said, "drained, no exit"

    # -- events -----------------------------------------------------------------------------------------------------

    def _job_event(self, event: Notified | Reconciled | RowRead | JobEnded) -> list[Instruction]:
        match event:
            case Notified(job_id):
                return [ReadRow(job_id)]
            case Reconciled(rows):
                return self._reconciled(rows)
            case RowRead(job_id, row):
                return self._row_read(job_id, row)
            case JobEnded(job_id, outcome):
                return self._job_ended(job_id, outcome)

    def _reconciled(self, rows: Mapping[int, JobStatus]) -> list[Instruction]:
        """The list is a hint as well: read each row that seems to ask for something, and those that lack a row."""

        def in_order(job_id: int) -> bool:
            task = self.tasks.get(job_id)
            return task is not None and task.phase is Phase.RUNNING and rows.get(job_id) is JobStatus.RUNNING

        return [ReadRow(job_id) for job_id in sorted({*rows, *self.tasks}) if not in_order(job_id)]

    def _row_read(self, job_id: int, row: Row | None) -> list[Instruction]:
        task = self.tasks.get(job_id)
        seen = self._seen(row, task)
        if task is not None and task.outcome is not None:
            return self._settle(job_id, row, seen, task.outcome)
        if task is None:
            return self._without_task(job_id, row, seen)
        action = WITH_TASK[task.phase][seen]
        task.phase = NEXT_PHASE.get(action, task.phase)
        return orders(action, job_id)

    def _job_ended(self, job_id: int, outcome: JobOutcome) -> list[Instruction]:
        task = self.tasks[job_id]
        self._cut_short |= self.draining and outcome.cut_short
        if task.phase is Phase.DROPPED:  # its outcome means nothing; the row may be ours again by now
            del self.tasks[job_id]
        else:
            task.phase, task.outcome = Phase.ENDED, outcome
        return [ReadRow(job_id), *self._exit_if_drained()]

    def _lease_lost(self) -> list[Instruction]:
        self.fenced = True
        running = [job_id for job_id, task in self.tasks.items() if task.phase is not Phase.ENDED]
        self.tasks = {job_id: Task(self.tasks[job_id].descriptor, Phase.DROPPED) for job_id in running}
        return [*(DropJob(job_id) for job_id in running), Exit(Fenced.exit_code)]

    def _shutdown_asked(self) -> list[Instruction]:
        self.draining = True
        running = [job_id for job_id, task in self.tasks.items() if task.phase is Phase.RUNNING]
        for job_id in running:
            self.tasks[job_id].phase = Phase.STOPPING
        return [*(StopJob(job_id) for job_id in running), *self._exit_if_drained()]

    # -- decisions --------------------------------------------------------------------------------------------------

    def _seen(self, row: Row | None, task: Task | None) -> Seen:
        if row is None or not row.ours:
            return Seen.GONE
        if row.status is not JobStatus.SCHEDULED:
            return SEEN.get(row.status, Seen.GONE)
        same = (
            task is not None and isinstance(row.descriptor, JobDescriptor) and task.descriptor.same_work(row.descriptor)
        )
        return Seen.SCHEDULED_SAME if same else Seen.SCHEDULED_OTHER

    def _without_task(self, job_id: int, row: Row | None, seen: Seen) -> list[Instruction]:
        action = WITHOUT_TASK[seen]
        if action not in (Action.MARK, Action.START):
            return orders(action, job_id)
        if self.draining:
            return []
        assert row is not None
        if isinstance(row.descriptor, AmpdError):
            return [Settle(job_id, (JobStatus.FATAL,), row.descriptor)]
        if action is Action.MARK:
            return orders(action, job_id)
        self.tasks[job_id] = Task(row.descriptor)
        return [StartJob(job_id, row.descriptor)]

    def _settle(self, job_id: int, row: Row | None, seen: Seen, outcome: JobOutcome) -> list[Instruction]:
        """Table 5.4. The outcome is kept until the row shows that nothing is left to write."""
        statuses = after_end(seen, outcome)
        if statuses:
            return [Settle(job_id, statuses, outcome.error)]
        del self.tasks[job_id]
        if seen is Seen.RUNNING and not self.draining:
            return [self._look_again(job_id)]
        del self._cut_off[job_id]
        rest = self._without_task(job_id, row, seen) if seen in _LEFT_TO_DO else []
        return [*rest, *self._exit_if_drained()]

    def _look_again(self, job_id: int) -> ReadRow:
        """The run was fenced or cancelled, and yet the job is ours: whoever had its leases is gone, or will go soon."""
        pause = RESTART_SECS * 2 ** min(self._cut_off[job_id], 10)
        self._cut_off[job_id] += 1
        return ReadRow(job_id, min(pause, RESTART_MAX_SECS))

    def _exit_if_drained(self) -> list[Instruction]:
        if not self.draining or self.tasks or self._exit_said:
            return []
        self._exit_said = True
        return [Exit(self.exit_code)]


_LEFT_TO_DO = (Seen.SCHEDULED_SAME, Seen.SCHEDULED_OTHER, Seen.UNKNOWN)
