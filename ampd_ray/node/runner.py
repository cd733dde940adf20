"""Carries out what :class:`NodeState` decides: one attendant per job, so that no job waits for another."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from ampd_ray import failpoints
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, DatabaseUnavailable
from ampd_ray.log import bind
from ampd_ray.materialize.patience import Complaints
from ampd_ray.materialize.types import JobOutcome
from ampd_ray.metadb import jobs
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.metadb.statuses import TERMINAL, JobStatus
from ampd_ray.node.answers import within
from ampd_ray.node.counters import Counters
from ampd_ray.node.events import (
    DropJob,
    Event,
    Exit,
    Instruction,
    JobEnded,
    LeaseLost,
    LogUnknown,
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
from ampd_ray.node.job import CANCEL_GRACE_SECS, JobFactory, JobRun
from ampd_ray.node.settle import Settler
from ampd_ray.node.state import NodeState

_log: Final = logging.getLogger(__name__)

STOP_SECS: Final = 5.0  # what a stopped job may still finish (spec/metadata-db.md 6)
_PAUSE_SECS: Final = 0.1
_PAUSE_MAX_SECS: Final = 1.0
T = TypeVar("T")


class JobRunner:
    """The jobs of one node. ``on_exit`` is called with an exit code when the state says that the node may end."""

    def __init__(
        self,
        db: Database,
        node_id: str,
        make_job: JobFactory,
        settler: Settler,
        counters: Counters,
        on_exit: Callable[[int], None],
    ) -> None:
        self.state = NodeState()
        self.counters = counters
        self._db = db
        self._node_id = node_id
        self._make_job = make_job
        self._settler = settler
        self._on_exit = on_exit
        self._stop_secs, self._grace_secs = STOP_SECS, CANCEL_GRACE_SECS
        self._closed = False
        self._rows: dict[int, JobRow] = {}
        self._runs: dict[int, JobRun] = {}
        self._asked: set[int] = set()
        self._attendants: dict[int, asyncio.Task[None]] = {}

    # -- what happens -------------------------------------------------------------------------------------------------

    def notified(self, job_id: int) -> None:
        """Somebody says that this job's row changed."""
        self._happened(Notified(job_id))

    def reconciled(self, rows: Mapping[int, JobStatus]) -> None:
        """All non-terminal rows of this node were read."""
        self._happened(Reconciled(rows))

    def fenced(self) -> None:
        """Another process owns this node now: end every run, write nothing."""
        self._happened(LeaseLost())

    def drain(self, deadline_secs: float, grace_secs: float) -> None:
        """Start nothing more; each run may commit for ``deadline_secs``, and is cancelled ``grace_secs`` later."""
        self._stop_secs, self._grace_secs = deadline_secs, grace_secs
        self._happened(ShutdownAsked())

    @property
    def runs(self) -> frozenset[int]:
        """The jobs that something is still done for."""
        return frozenset(self._runs)

    async def close(self) -> None:
        """End attendants and runs by force."""
        self._closed = True
        attendants = list(self._attendants.values())
        for attendant in attendants:
            attendant.cancel()
        await asyncio.gather(*attendants, return_exceptions=True)
        await asyncio.gather(*(run.close() for run in list(self._runs.values())))

    def _happened(self, event: Event) -> None:
        if self._closed:
            return
        for instruction in self._decide(event):
            self._do(instruction)

    def _decide(self, event: Event) -> list[Instruction]:
        instructions = self.state.handle(event)
        if instructions:
            _log.debug("decided", extra={"event": event, "instructions": instructions})
        return instructions

    # -- what to do about it ------------------------------------------------------------------------------------------

    def _do(self, instruction: Instruction) -> None:
        match instruction:
            case ReadRow(job_id, after_secs) if after_secs:
                asyncio.get_running_loop().call_later(_jittered(after_secs), self._attend, job_id)
            case ReadRow(job_id):
                self._attend(job_id)
            case StartJob(job_id, descriptor):
                self._start(job_id, descriptor)
            case StopJob(job_id):
                self._runs[job_id].stop(self._stop_secs, self._grace_secs)
            case DropJob(job_id):
                self._runs[job_id].drop()
            case LogUnknown(job_id):
                self.counters.unknown_statuses += 1
                _log.warning("a job has a status that we do not know; it is left alone", extra={"job_id": job_id})
            case Exit(code):
                self._on_exit(code)

    def _start(self, job_id: int, descriptor: JobDescriptor) -> None:
        row = self._rows[job_id]
        self.counters.job_starts += 1
        _log.info("job starts", extra={"job_id": job_id, "dataset": descriptor.dataset})

        def ended(outcome: JobOutcome) -> None:
            self._runs.pop(job_id, None)
            _log.info("job ended", extra={"job_id": job_id, "outcome": outcome.outcome.value})
            self._happened(JobEnded(job_id, outcome))

        self._runs[job_id] = JobRun(job_id, lambda: self._make_job(row, descriptor), ended)

    def _attend(self, job_id: int) -> None:
        """Read the row of this job soon. Requests that arrive meanwhile fall into one."""
        self._asked.add(job_id)
        if job_id not in self._attendants and not self._closed:
            self._attendants[job_id] = asyncio.create_task(self._read_and_act(job_id), name=f"job-{job_id}-row")

    async def _read_and_act(self, job_id: int) -> None:
        reads, writes = _Patience("a job's row is read"), _Patience("a job's status is written")
        try:
            with bind(job_id=job_id):
                while job_id in self._asked:
                    self._asked.discard(job_id)
                    row = await self._until_answered(lambda: self._read(job_id), reads)
                    for instruction in self._decide(RowRead(job_id, row)):
                        if isinstance(instruction, Settle):
                            await self._settle(instruction, writes)
                        else:
                            self._do(instruction)
        except Exception:
            # The next periodic pass looks at this job again; other jobs never notice.
            _log.exception("a job's row could not be handled", extra={"job_id": job_id})
        finally:
            self._attendants.pop(job_id, None)
            self._rows.pop(job_id, None)
            self._asked.discard(job_id)

    async def _read(self, job_id: int) -> Row | None:
        async with self._db.connection() as conn:
            found = await jobs.get(conn, job_id)
        if found is None:
            return None
        self._rows[job_id] = found
        descriptor: JobDescriptor | AmpdError
        try:
            descriptor = JobDescriptor.parse(json.dumps(found.descriptor))
        except AmpdError as error:
            descriptor = error
        return Row(job_id, found.status, found.node_id == self._node_id, descriptor)

    async def _settle(self, order: Settle, patience: _Patience) -> None:
        """Write, and read again whatever came of it: success, conflict and unknown outcome look the same from here."""
        self._asked.add(order.job_id)
        try:
            if order.statuses[-1] in TERMINAL:
                await failpoints.reach("before-settle")
            written = await within(self._settler.write(order))
        except AmpdError as error:
            self.counters.database_retries += 1
            await patience.bear(error)
            return
        patience.over()
        if not written:
            self.counters.state_conflicts += 1
            _log.info("a job's status changed meanwhile", extra={"wanted": order.statuses})
            await asyncio.sleep(_jittered(_PAUSE_SECS))

    async def _until_answered(self, ask: Callable[[], Coroutine[Any, Any, T]], patience: _Patience) -> T:
        while True:
            try:
                answer = await within(ask())
            except DatabaseUnavailable as error:
                self.counters.database_retries += 1
                await patience.bear(error)
            else:
                patience.over()
                return answer


class _Patience:
    """Longer and longer pauses while the same thing fails again and again, and a line a minute about it."""

    def __init__(self, what: str) -> None:
        self._complaints = Complaints(what)
        self._pause = _PAUSE_SECS

    async def bear(self, error: AmpdError) -> None:
        """It failed once more."""
        self._complaints.add(error)
        await asyncio.sleep(_jittered(self._pause))
        self._pause = min(self._pause * 2, _PAUSE_MAX_SECS)

    def over(self) -> None:
        """It went well."""
        self._complaints.settle()
        self._pause = _PAUSE_SECS


def _jittered(secs: float) -> float:
    return secs * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, protects nothing
