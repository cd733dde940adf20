"""Who takes over which jobs: every combination of facts against the rule of spec/metadata-db.md 7.6, said again."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.metadb.takeover import Candidate, Claim, Move
from ampd_ray.node.takeover import Reason, Situation, Takeover, loops, settlement, to_run

S = JobStatus
ME, GROUP = "worker-1", "here"
OPEN = (S.SCHEDULED, S.RUNNING, S.STOP_REQUESTED, S.STOPPING)
CLOSED = (S.COMPLETED, S.STOPPED, S.ERROR, S.FATAL)

DEAD = Candidate(
    job_id=7,
    node_id="dead",
    written="RUNNING",
    implementation="ampd-ray",
    failover_group=GROUP,
    silent=True,
    expired=True,
    draining=False,
    lapsed=True,
    fruitless=0,
)


def at(now: float = 0.0, jobs: int = 0, *, draining: bool = False) -> Situation:
    return Situation(now, jobs, draining)


def test_who_could_not_be_seen_to_live_is_not_dead() -> None:
    """After the database was away, all peers have been silent."""
    released = replace(DEAD, job_id=8, draining=True)
    decider = Takeover(ME, GROUP)
    assert decider.choose(Situation(0.0, 0, False, seen_secs=4.9), [DEAD, released]) == [released]
    assert decider.choose(Situation(0.1, 0, False, seen_secs=5.0), [DEAD]) == [DEAD]


def many(count: int, **facts: object) -> list[Candidate]:
    return [replace(DEAD, job_id=job_id, **facts) for job_id in range(1, count + 1)]  # type: ignore[arg-type]


BOTH = (False, True)
FACTS = itertools.product(
    (*OPEN, *CLOSED, "SOMETHING_ELSE"),
    ("ampd-ray", "amp", None),
    (GROUP, "elsewhere", None),
    BOTH,  # silent
    BOTH,  # expired
    BOTH,  # draining
    BOTH,  # lapsed
    BOTH,  # this node is draining itself
)


def test_every_combination_of_facts() -> None:
    taken = 0
    for status, implementation, group, silent, expired, draining, lapsed, ending in FACTS:
        candidate = replace(
            DEAD,
            written=str(status),
            implementation=implementation,
            failover_group=group,
            silent=silent,
            expired=expired,
            draining=draining,
            lapsed=lapsed,
        )
        released = draining and expired
        dead = silent and expired
        may = status in OPEN and implementation == "ampd-ray" and group == GROUP and (released or dead) and lapsed
        takeover = Takeover(ME, GROUP)
        reason = takeover.reason(candidate)
        peers = status in OPEN and implementation == "ampd-ray" and group == GROUP
        assert takeover.soon(candidate) == (peers and expired and not may), candidate
        assert (reason is not None) == may, candidate
        if may:
            assert reason is (Reason.RELEASED if released else Reason.DEAD)
        chosen = takeover.choose(at(draining=ending), [candidate])
        assert chosen == ([candidate] if may and not ending else []), candidate
        taken += len(chosen)
    assert taken == 4 * 3  # four statuses; dead, released, or both


def test_at_most_four_in_any_second() -> None:
    takeover = Takeover(ME, GROUP)
    jobs = many(20)
    claimed: list[float] = []
    for step in range(100):
        now = step * 0.1
        claimed += [now] * len(takeover.choose(at(now), jobs))
    assert len(claimed) == 40
    for start in claimed:
        assert sum(start <= when < start + 0.999 for when in claimed) <= 4


def test_jobs_that_cannot_be_had_do_not_stand_in_the_way_of_others() -> None:
    takeover, left, held = Takeover(ME, GROUP), many(12), {1, 2, 3, 4, 5}
    for second in range(5):
        had = {job.job_id for job in takeover.choose(at(second), left)} - held
        left = [job for job in left if job.job_id not in had]
    assert {job.job_id for job in left} == held


def test_a_job_that_comes_back_is_as_new() -> None:
    takeover, jobs = Takeover(ME, GROUP), many(5)
    first = takeover.choose(at(0), jobs)
    takeover.choose(at(1), [])
    assert takeover.choose(at(2), jobs) == first


def test_no_more_than_there_is_room_for() -> None:
    takeover = Takeover(ME, GROUP, max_jobs=3)
    assert len(takeover.choose(at(jobs=1), many(9))) == 2
    assert takeover.choose(at(10.0, jobs=3), many(9)) == []
    assert takeover.choose(at(20.0, jobs=5), many(9)) == []


@pytest.mark.parametrize("facts", [{"written": "STOPPING"}, {"written": "STOP_REQUESTED"}, {"fruitless": 5}])
def test_what_only_needs_an_end_needs_no_room(facts: dict[str, object]) -> None:
    assert len(Takeover(ME, GROUP, max_jobs=1).choose(at(jobs=1), many(3, **facts))) == 3


def test_those_to_run_do_not_stand_in_the_way_of_others() -> None:
    stopping = replace(DEAD, job_id=99, written="STOPPING")
    for job_id in range(1, 9):
        running = replace(DEAD, job_id=job_id)
        assert Takeover(ME, GROUP, max_jobs=0).choose(at(), [running, stopping]) == [stopping]


def test_peers_begin_with_different_jobs() -> None:
    jobs = many(8)
    firsts = {Takeover(f"worker-{number}", GROUP).choose(at(), jobs)[0].job_id for number in range(8)}
    assert len(firsts) > 3
    for number in range(8):
        takeover = Takeover(f"worker-{number}", GROUP)
        seen = [job for second in range(2) for job in takeover.choose(at(second), jobs[4 * second : 4 * second + 4])]
        assert sorted(job.job_id for job in seen) == list(range(1, 9))


@pytest.mark.parametrize("status", [S.SCHEDULED, S.RUNNING])
@pytest.mark.parametrize("reason", Reason)
def test_a_job_goes_on_as_running(status: JobStatus, reason: Reason) -> None:
    detail = {"reassigned_from": "dead", "reason": reason.value, "epoch": 3}
    assert settlement(replace(DEAD, written=status), reason, 3) == Claim((Move(S.RUNNING, detail),))


def test_a_stop_is_brought_to_its_end() -> None:
    asked = replace(DEAD, written="STOP_REQUESTED")
    assert settlement(asked, Reason.DEAD, 3) == Claim((Move(S.STOPPING), Move(S.STOPPED)))
    assert settlement(replace(DEAD, written="STOPPING"), Reason.DEAD, 3) == Claim((Move(S.STOPPED),))


@pytest.mark.parametrize("status", OPEN)
@pytest.mark.parametrize("fruitless", [0, 4, 5, 6])
def test_five_take_overs_without_progress_are_a_loop(status: JobStatus, fruitless: int) -> None:
    candidate = replace(DEAD, written=status, fruitless=fruitless)
    runs = status in (S.SCHEDULED, S.RUNNING)
    assert loops(candidate) == (runs and fruitless >= 5)
    assert to_run(candidate) == (runs and fruitless < 5)
