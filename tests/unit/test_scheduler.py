"""Choice of worker and time of retry (spec/metadata-db.md 7.1, 7.4)."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from ampd_ray.controller.scheduler import Candidate, FailedJob, choose_worker, due, retry_delay
from ampd_ray.errors import InvalidName, SchedulerError, WorkerNotAvailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def worker(node_id: str, load: int = 0, *, alive: bool = True, draining: bool = False) -> Candidate:
    return Candidate(node_id, alive, load, draining)


def chosen(candidates: list[Candidate], selector: str | None) -> set[str]:
    return {choose_worker(candidates, selector, random.Random(seed)) for seed in range(40)}


def test_the_least_loaded_worker_is_chosen() -> None:
    assert chosen([worker("a", 3), worker("b", 1), worker("c", 2)], None) == {"b"}


def test_ties_are_broken_at_random() -> None:
    assert chosen([worker("a", 1), worker("b", 1), worker("c", 2)], None) == {"a", "b"}


def test_dead_and_draining_workers_get_nothing() -> None:
    assert chosen([worker("a", alive=False), worker("b", draining=True), worker("c", 9)], None) == {"c"}


def test_an_exact_id_wins_over_load() -> None:
    assert chosen([worker("a", 9), worker("b")], "a") == {"a"}


@pytest.mark.parametrize("state", [{"alive": False}, {"draining": True}])
def test_an_exact_id_must_be_alive(state: dict[str, bool]) -> None:
    with pytest.raises(WorkerNotAvailable, match="'a' is not alive.*alive: b.*ampd worker"):
        choose_worker([worker("a", **state), worker("b")], "a", random.Random(0))


def test_a_prefix_chooses_among_those_that_match() -> None:
    assert chosen([worker("ray-1", 2), worker("ray-2", 1), worker("amp-1")], "ray-*") == {"ray-2"}


@pytest.mark.parametrize("candidates", [[], [worker("a", alive=False)], [worker("a", draining=True)]])
@pytest.mark.parametrize("selector", [None, "a*"])
def test_nobody_to_choose_says_how_to_start_a_worker(candidates: list[Candidate], selector: str | None) -> None:
    with pytest.raises(SchedulerError, match="ampd worker --config <file> --node-id <id>"):
        choose_worker(candidates, selector, random.Random(0))


@pytest.mark.parametrize("selector", ["*", "a*b", "a**", "1a", "", "a b"])
def test_a_malformed_selector_is_refused(selector: str) -> None:
    with pytest.raises(InvalidName):
        choose_worker([worker("a")], selector, random.Random(0))


@pytest.mark.parametrize(("failures", "secs"), [(1, 2), (2, 4), (8, 256), (9, 300), (10_000, 300)])
def test_delays_double_up_to_the_cap(failures: int, secs: float) -> None:
    assert retry_delay(failures, 0.5) == timedelta(seconds=secs)
    assert retry_delay(failures, 0.0) == timedelta(seconds=0.8 * secs)
    assert timedelta(seconds=1.19 * secs) < retry_delay(failures, 0.999) < timedelta(seconds=1.2 * secs)


def failed(
    job_id: int, failures: int = 1, *, ago: float = 0.0, next_in: float | None = None, events: int = 1
) -> FailedJob:
    at = None if next_in is None else NOW + timedelta(seconds=next_in)
    return FailedJob(job_id, failures, NOW - timedelta(seconds=ago), at, events)


def due_ids(*rows: FailedJob) -> list[int]:
    return [row.job_id for row in due(rows, NOW, max_attempts=20)]


def test_a_job_is_due_once_its_time_has_come() -> None:
    assert due_ids(failed(1, next_in=0.1), failed(2, next_in=0.0), failed(3, next_in=-5)) == [3, 2]


def test_a_job_of_an_amp_worker_counts_from_its_failure() -> None:
    assert due_ids(failed(1, 0, ago=1.9), failed(2, 0, ago=2.0), failed(3, 3, ago=7.9)) == [2]


def test_hopeless_jobs_are_left_alone() -> None:
    assert due_ids(failed(1, 20, ago=9999), failed(2, ago=9999, events=40), failed(3, 19, ago=9999, events=39)) == [3]
