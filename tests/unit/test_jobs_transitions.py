"""The life of a job: which moves there are, and when a failure is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ampd_ray.metadb.statuses import ACTIVE, TERMINAL, TRANSITIONS, JobStatus, failure_status, retry_delay

WORKERS_MOVES = {
    ("SCHEDULED", "RUNNING"),
    ("STOP_REQUESTED", "STOPPING"),
    ("STOPPING", "STOPPED"),
    ("RUNNING", "COMPLETED"),
    ("SCHEDULED", "ERROR"),
    ("RUNNING", "ERROR"),
    ("SCHEDULED", "FATAL"),
    ("RUNNING", "FATAL"),
}
CONTROLLERS_MOVES = {
    ("COMPLETED", "SCHEDULED"),
    ("STOPPED", "SCHEDULED"),
    ("ERROR", "SCHEDULED"),
    ("FATAL", "SCHEDULED"),
    ("SCHEDULED", "STOP_REQUESTED"),
    ("RUNNING", "STOP_REQUESTED"),
}


def test_there_are_these_moves_and_no_others() -> None:
    moves = {(start.value, to.value) for to, starts in TRANSITIONS.items() for start in starts}
    assert moves == WORKERS_MOVES | CONTROLLERS_MOVES


def test_every_known_status_is_either_active_or_terminal() -> None:
    assert set(JobStatus) - {JobStatus.UNKNOWN} == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL
    assert JobStatus.ERROR.terminal
    assert not JobStatus.UNKNOWN.terminal


@pytest.mark.parametrize("text", ["RUNNING", "running", "Running"])
def test_a_status_is_read_in_any_case(text: str) -> None:
    assert JobStatus.read(text) is JobStatus.RUNNING


@pytest.mark.parametrize("text", ["", "PAUSED", "RUNNING ", "unknown"])
def test_any_other_text_is_unknown(text: str) -> None:
    assert JobStatus.read(text) is JobStatus.UNKNOWN


@pytest.mark.parametrize(
    ("retryable", "failures", "scheduled", "status"),
    [
        (True, 1, 1, "ERROR"),
        (True, 19, 39, "ERROR"),
        (False, 1, 1, "FATAL"),
        (True, 20, 1, "FATAL"),
        (True, 1, 40, "FATAL"),
    ],
)
def test_a_failure_is_fatal_when_trying_again_is_hopeless_or_harms_amp(
    retryable: bool, failures: int, scheduled: int, status: str
) -> None:
    assert failure_status(retryable=retryable, failures=failures, scheduled=scheduled) == status


def test_delays_double_up_to_a_cap_and_spread() -> None:
    assert [retry_delay(n, 1.0).total_seconds() for n in (0, 1, 2, 8, 9, 1000)] == [1, 2, 4, 256, 300, 300]
    assert retry_delay(9, 1.2) == timedelta(seconds=360)
    assert retry_delay(3, 0.8, longest=timedelta(seconds=5)) == timedelta(seconds=4)
