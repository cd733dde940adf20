"""The node's decisions: every cell of the tables 5.3 and 5.4 of spec/metadata-db.md, and the stories around them."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import pytest

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, DatabaseUnavailable, InvalidManifest
from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb.statuses import JobStatus
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
from ampd_ray.node.state import RESTART_MAX_SECS, RESTART_SECS, NodeState
from ampd_ray.node.tables import Phase

JOB = 7
S = JobStatus
TERMINAL = (S.COMPLETED, S.STOPPED, S.ERROR, S.FATAL)
COMPLETED = JobOutcome(Outcome.COMPLETED)
STOPPED = JobOutcome(Outcome.STOPPED)
FENCED = JobOutcome(Outcome.FENCED)
RETRYABLE = JobOutcome(Outcome.FAILED, DatabaseUnavailable("the database did not answer"))
HOPELESS = JobOutcome(Outcome.FAILED, InvalidManifest("no manifest"))


def descriptor(end: str) -> JobDescriptor:
    fields = {
        "kind": "materialize-raw",
        "dataset_namespace": "_",
        "dataset_name": "eth",
        "manifest_hash": "a" * 64,
        "end_block": end,
    }
    return JobDescriptor.model_validate_json(json.dumps(fields))


A, B = descriptor("100"), descriptor("200")


def row(status: JobStatus, *, ours: bool = True, work: JobDescriptor | AmpdError = A) -> Row:
    return Row(JOB, status, ours, work)


def feed(state: NodeState, event: Event) -> list[Instruction]:
    instructions = state.handle(event)
    state.validate()
    return instructions


def read(state: NodeState, seen: Row | None) -> list[Instruction]:
    return feed(state, RowRead(JOB, seen))


def running() -> NodeState:
    state = NodeState()
    assert read(state, row(S.RUNNING)) == [StartJob(JOB, A)]
    return state


def stopping() -> NodeState:
    state = running()
    read(state, row(S.STOPPING))
    assert state.tasks[JOB].phase is Phase.STOPPING
    return state


def replacing() -> NodeState:
    state = running()
    assert read(state, row(S.SCHEDULED, work=B)) == [StopJob(JOB)]
    assert state.tasks[JOB].phase is Phase.REPLACING
    return state


def dropped() -> NodeState:
    state = running()
    assert read(state, None) == [DropJob(JOB)]
    assert state.tasks[JOB].phase is Phase.DROPPED
    return state


STATES = {"none": NodeState, "running": running, "stopping": stopping, "replacing": replacing, "dropped": dropped}

SETTLE_RUNNING = [Settle(JOB, (S.RUNNING,))]
MARK_STOPPING = [Settle(JOB, (S.STOPPING,))]
NOTHING: list[Instruction] = []

# (status, same descriptor as the task's) -> what follows, for a row that is ours
TABLE_5_3: dict[str, dict[tuple[JobStatus, bool], list[Instruction]]] = {
    "none": {
        (S.SCHEDULED, True): [*SETTLE_RUNNING],
        (S.SCHEDULED, False): [*SETTLE_RUNNING],
        (S.RUNNING, True): [StartJob(JOB, A)],
        (S.RUNNING, False): [StartJob(JOB, B)],
        (S.STOP_REQUESTED, True): [Settle(JOB, (S.STOPPING, S.STOPPED))],
        (S.STOPPING, True): [Settle(JOB, (S.STOPPED,))],
        (S.UNKNOWN, True): [LogUnknown(JOB)],
    },
    "running": {
        (S.SCHEDULED, True): [*SETTLE_RUNNING],
        (S.SCHEDULED, False): [StopJob(JOB)],
        (S.RUNNING, True): NOTHING,
        (S.STOP_REQUESTED, True): [StopJob(JOB), *MARK_STOPPING],
        (S.STOPPING, True): [StopJob(JOB)],
        (S.UNKNOWN, True): [LogUnknown(JOB)],
    },
    "stopping": {
        (S.STOP_REQUESTED, True): [*MARK_STOPPING],
        (S.UNKNOWN, True): [LogUnknown(JOB)],
    },
    "replacing": {
        (S.STOP_REQUESTED, True): [*MARK_STOPPING],
        (S.UNKNOWN, True): [LogUnknown(JOB)],
    },
    "dropped": {},
}


def expected_5_3(task: str, status: JobStatus, ours: bool, same: bool) -> list[Instruction]:
    if not ours or status in TERMINAL:
        return [DropJob(JOB)] if task in ("running", "stopping", "replacing") else []
    cells = TABLE_5_3[task]
    return cells.get((status, same), cells.get((status, True), []))


@pytest.mark.parametrize("same", [True, False], ids=["same", "other"])
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "foreign"])
@pytest.mark.parametrize("status", list(JobStatus))
@pytest.mark.parametrize("task", list(STATES))
def test_each_cell_of_table_5_3(task: str, status: JobStatus, ours: bool, same: bool) -> None:
    state = STATES[task]()
    seen = row(status, ours=ours, work=A if same else B)
    assert read(state, seen) == expected_5_3(task, status, ours, same)


@pytest.mark.parametrize("task", list(STATES))
def test_an_absent_row_drops_the_task_once(task: str) -> None:
    state = STATES[task]()
    first = read(state, None)
    assert first == ([DropJob(JOB)] if task in ("running", "stopping", "replacing") else [])
    assert read(state, None) == []


ROW_5_4: dict[JobStatus, tuple[JobStatus, ...]] = {
    S.STOP_REQUESTED: (S.STOPPING, S.STOPPED),
    S.STOPPING: (S.STOPPED,),
    S.SCHEDULED: (S.RUNNING,),
}


def written_5_4(status: JobStatus, outcome: JobOutcome) -> tuple[JobStatus, ...]:
    if status is not S.RUNNING:
        return ROW_5_4.get(status, ())
    if outcome is COMPLETED:
        return (S.COMPLETED,)
    if outcome.outcome is Outcome.FAILED:
        return (S.ERROR if outcome is RETRYABLE else S.FATAL,)
    return ()


@pytest.mark.parametrize("task", ["running", "stopping", "replacing"])
@pytest.mark.parametrize("outcome", [COMPLETED, STOPPED, FENCED, RETRYABLE, HOPELESS], ids=str)
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "foreign"])
@pytest.mark.parametrize("status", list(JobStatus))
def test_each_cell_of_table_5_4(task: str, outcome: JobOutcome, ours: bool, status: JobStatus) -> None:
    state = STATES[task]()
    assert feed(state, JobEnded(JOB, outcome)) == [ReadRow(JOB)]
    instructions = read(state, row(status, ours=ours))
    statuses = written_5_4(status, outcome) if ours else ()
    if status is S.UNKNOWN and ours:
        assert instructions == [LogUnknown(JOB)]
    elif status is S.RUNNING and ours and not statuses:  # nothing to write, and the job is to go on
        assert instructions == [ReadRow(JOB, RESTART_SECS)]
    else:
        assert [i.statuses for i in instructions if isinstance(i, Settle)] == ([statuses] if statuses else [])
        assert len(instructions) == bool(statuses)
    settled = not statuses or status is S.SCHEDULED
    assert (JOB in state.tasks) is not settled


def test_a_scheduled_job_starts_when_its_row_has_become_running() -> None:
    state = NodeState()
    assert feed(state, Notified(JOB)) == [ReadRow(JOB)]
    assert read(state, row(S.SCHEDULED)) == [*SETTLE_RUNNING]
    assert read(state, row(S.RUNNING)) == [StartJob(JOB, A)]
    assert read(state, row(S.RUNNING)) == []


def test_a_conflict_while_marking_is_decided_by_the_row_read_after_it() -> None:
    state = NodeState()
    read(state, row(S.SCHEDULED))
    assert read(state, row(S.STOP_REQUESTED)) == [Settle(JOB, (S.STOPPING, S.STOPPED))]
    assert read(state, row(S.STOPPED)) == []


def test_the_outcome_survives_until_the_row_shows_it() -> None:
    state = running()
    feed(state, JobEnded(JOB, COMPLETED))
    assert read(state, row(S.RUNNING)) == [Settle(JOB, (S.COMPLETED,))]
    assert read(state, row(S.RUNNING)) == [Settle(JOB, (S.COMPLETED,))]  # the write did not get through
    assert read(state, row(S.STOP_REQUESTED)) == [Settle(JOB, (S.STOPPING, S.STOPPED))]
    assert read(state, row(S.STOPPED)) == []
    assert state.tasks == {}


def test_a_failure_carries_its_error() -> None:
    state = running()
    feed(state, JobEnded(JOB, HOPELESS))
    assert read(state, row(S.RUNNING)) == [Settle(JOB, (S.FATAL,), HOPELESS.error)]


def test_a_replaced_job_starts_anew_from_the_new_descriptor() -> None:
    state = replacing()
    feed(state, JobEnded(JOB, STOPPED))
    assert read(state, row(S.SCHEDULED, work=B)) == [*SETTLE_RUNNING]
    assert read(state, row(S.RUNNING, work=B)) == [StartJob(JOB, B)]


def test_a_dropped_job_that_comes_back_waits_for_its_task_to_end() -> None:
    state = dropped()
    assert read(state, row(S.SCHEDULED)) == []
    assert feed(state, JobEnded(JOB, COMPLETED)) == [ReadRow(JOB)]
    assert read(state, row(S.SCHEDULED)) == [*SETTLE_RUNNING]


@pytest.mark.parametrize("status", [S.SCHEDULED, S.RUNNING])
def test_an_unreadable_descriptor_is_fatal(status: JobStatus) -> None:
    error = InvalidManifest("not JSON")
    assert read(NodeState(), row(status, work=error)) == [Settle(JOB, (S.FATAL,), error)]


def test_a_job_with_an_unreadable_descriptor_can_still_be_stopped() -> None:
    error = InvalidManifest("not JSON")
    assert read(NodeState(), row(S.STOPPING, work=error)) == [Settle(JOB, (S.STOPPED,))]


def test_reconciling_reads_what_asks_for_something_and_what_lacks_a_row() -> None:
    state = running()
    assert feed(state, Reconciled({JOB: S.RUNNING})) == []
    assert feed(state, Reconciled({JOB: S.RUNNING, 9: S.SCHEDULED, 8: S.STOPPING})) == [ReadRow(8), ReadRow(9)]
    assert feed(state, Reconciled({JOB: S.STOP_REQUESTED})) == [ReadRow(JOB)]
    assert feed(state, Reconciled({})) == [ReadRow(JOB)]


def test_a_fenced_job_that_is_ours_starts_again_ever_later() -> None:
    state, pauses = NodeState(), []
    for _ in range(12):
        assert read(state, row(S.RUNNING)) == [StartJob(JOB, A)]
        feed(state, JobEnded(JOB, FENCED))
        (again,) = read(state, row(S.RUNNING))
        assert isinstance(again, ReadRow)
        pauses.append(again.after_secs)
    assert pauses[:4] == [RESTART_SECS * factor for factor in (1, 2, 4, 8)]
    assert pauses[-1] == RESTART_MAX_SECS


@pytest.mark.parametrize("seen", [row(S.RUNNING, ours=False), row(S.STOPPED), None])
def test_a_job_that_went_away_meanwhile_starts_again_at_once(seen: Row | None) -> None:
    state = running()
    feed(state, JobEnded(JOB, FENCED))
    read(state, row(S.RUNNING))
    read(state, row(S.RUNNING))
    feed(state, JobEnded(JOB, FENCED))
    assert read(state, seen) == []
    read(state, row(S.RUNNING))
    feed(state, JobEnded(JOB, FENCED))
    assert read(state, row(S.RUNNING)) == [ReadRow(JOB, RESTART_SECS)]


@pytest.mark.parametrize("code", [0, 1])
def test_draining_stops_every_job_and_exits_when_the_last_has_settled(code: int) -> None:
    """With 1 if one of them had to drop what it had extracted."""
    state = running()
    assert feed(state, ShutdownAsked()) == [StopJob(JOB)]
    assert feed(state, JobEnded(JOB, replace(STOPPED, cut_short=bool(code)))) == [ReadRow(JOB)]
    assert read(state, row(S.RUNNING)) == [Exit(code)]


def test_a_job_that_was_cut_short_before_the_drain_does_not_count() -> None:
    state = running()
    feed(state, Notified(JOB))
    assert read(state, row(S.STOPPING)) == [StopJob(JOB)]
    feed(state, JobEnded(JOB, replace(STOPPED, cut_short=True)))
    assert read(state, row(S.STOPPED)) == []
    assert feed(state, ShutdownAsked()) == [Exit(0)]


def test_a_job_that_completes_while_draining_is_settled_first() -> None:
    state = running()
    feed(state, ShutdownAsked())
    feed(state, JobEnded(JOB, COMPLETED))
    assert read(state, row(S.RUNNING)) == [Settle(JOB, (S.COMPLETED,))]
    assert read(state, row(S.COMPLETED)) == [Exit(0)]


@pytest.mark.parametrize("status", [S.SCHEDULED, S.RUNNING])
def test_nothing_starts_while_draining(status: JobStatus) -> None:
    state = NodeState()
    assert feed(state, ShutdownAsked()) == [Exit(0)]
    assert read(state, row(status)) == []


def test_a_fenced_node_drops_everything_and_writes_nothing() -> None:
    state = running()
    assert feed(state, LeaseLost()) == [DropJob(JOB), Exit(3)]
    assert feed(state, JobEnded(JOB, COMPLETED)) == []
    assert read(state, row(S.SCHEDULED)) == []
    assert feed(state, ShutdownAsked()) == []
    assert state.tasks == {}


def test_a_fenced_node_forgets_unsettled_outcomes() -> None:
    state = running()
    feed(state, JobEnded(JOB, COMPLETED))
    assert feed(state, LeaseLost()) == [Exit(3)]


@pytest.mark.parametrize("seed", range(50))
def test_invariants_hold_in_any_order_of_events(seed: int) -> None:
    choose = random.Random(seed)
    state = NodeState()
    exits = 0
    outcomes = (COMPLETED, STOPPED, FENCED, RETRYABLE, HOPELESS)
    rows = [Row(j, s, o, d) for j, s, o, d in itertools.product((1, 2, 3), S, (True, False), (A, B))]
    for _ in range(200):
        seen = choose.choice(rows)
        running_jobs = [j for j, task in state.tasks.items() if task.outcome is None]
        events: list[Event] = [Notified(seen.job_id), RowRead(seen.job_id, seen), RowRead(seen.job_id, None)]
        events.append(Reconciled({seen.job_id: seen.status}))
        if running_jobs:
            events.append(JobEnded(choose.choice(running_jobs), choose.choice(outcomes)))
        if choose.random() < 0.01:
            events.append(ShutdownAsked())
        if choose.random() < 0.005:
            events.append(LeaseLost())
        before = dict(state.tasks)
        for instruction in feed(state, choose.choice(events)):
            exits += isinstance(instruction, Exit)
            if isinstance(instruction, StartJob):
                assert instruction.job_id not in before
            if isinstance(instruction, StopJob | DropJob):
                assert instruction.job_id in before
    assert exits <= 2
