"""Every row of the table from Ray's exceptions to ours: made by hand, and where it can be done, by a real actor."""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray import exceptions as ray_errors

from ampd_ray.actors.failures import actor_is_gone, domain_error
from ampd_ray.errors import (
    ActorLost,
    AmpdError,
    DataFault,
    Fenced,
    Handling,
    OutOfMemory,
    Overlap,
    RowsLost,
    Unexpected,
    WrongChain,
)

OBJECT = "00" * 28

LOST = [
    (ray_errors.ActorDiedError(), ActorLost, True),
    (ray_errors.ActorUnavailableError("no answer", None), ActorLost, True),
    (ray_errors.ActorUnschedulableError("its Ray node is gone"), ActorLost, True),
    (ray_errors.WorkerCrashedError(), ActorLost, True),
    (ray_errors.NodeDiedError("gone"), ActorLost, True),  # type: ignore[no-untyped-call]
    (ray_errors.OutOfMemoryError("killed"), OutOfMemory, True),  # type: ignore[no-untyped-call]
    (ray_errors.TaskCancelledError(), ActorLost, False),
    (ray_errors.OwnerDiedError(OBJECT, None, ""), ActorLost, False),
    (ray_errors.ObjectLostError(OBJECT, None, ""), ActorLost, False),
    (ray_errors.ObjectFetchTimedOutError(OBJECT, None, ""), ActorLost, False),
    (ray_errors.ObjectStoreFullError("full"), OutOfMemory, False),
    (ray_errors.OutOfDiskError(OBJECT, None, ""), OutOfMemory, False),
]


@pytest.mark.parametrize(("error", "ours", "gone"), LOST, ids=[type(row[0]).__name__ for row in LOST])
def test_what_is_lost_is_asked_for_again(error: Exception, ours: type[AmpdError], gone: bool) -> None:
    found = domain_error(error, "an extractor")
    assert type(found) is ours
    assert found.handling is Handling.TRANSIENT
    assert type(error).__name__ in found.message
    assert actor_is_gone(error) is gone


OURS = [
    DataFault("block 7 contradicts itself", block=7, check="bloom"),
    Overlap("somebody was first", table="logs"),
    Fenced("somebody else has the lease"),
    WrongChain("chain 5, not 1", found=5),
]


class Failing:
    """Fails in every way that a plain class can."""

    def pid(self) -> int:
        return os.getpid()

    def fail(self, error: Exception) -> None:
        raise error

    def take(self, rows: Any) -> None:
        """Never gets them."""

    def fail_oddly(self) -> None:
        class Unpicklable(Exception):
            def __reduce__(self) -> Any:
                raise TypeError("never leaves this process")

        raise Unpicklable("odd")

    async def hang(self) -> None:
        import asyncio

        await asyncio.Event().wait()


class NeverStarts:
    def __init__(self) -> None:
        raise ValueError("password=hunter2")

    def pid(self) -> int:
        return os.getpid()


def start(plain: type) -> Any:
    as_actor: Any = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
    return as_actor(plain).options(max_concurrency=4).remote()


@pytest.fixture(scope="module")
def failing() -> Any:
    return start(Failing)


def caught(call: Any) -> Exception:
    try:
        ray.get(call, timeout=30)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("error", OURS, ids=[type(error).__name__ for error in OURS])
def test_an_error_of_ours_comes_back_as_it_was(failing: Any, error: AmpdError) -> None:
    raised = caught(failing.fail.remote(error))
    found = domain_error(raised, "a writer")
    assert isinstance(raised, ray_errors.RayTaskError)
    assert (type(found), found.message, found.details) == (type(error), error.message, error.details)
    assert (found.handling, found.code) == (error.handling, error.code)
    assert not actor_is_gone(raised)
    again = pickle.loads(pickle.dumps(found))
    assert (type(again), again.message, again.details) == (type(error), error.message, error.details)


def test_an_unexpected_exception_is_a_bug_and_tells_no_secret(failing: Any, caplog: pytest.LogCaptureFixture) -> None:
    found = domain_error(caught(failing.fail.remote(ValueError("password=hunter2"))), "an extractor")
    assert type(found) is Unexpected
    assert "ValueError" in found.message
    assert "hunter2" not in found.message
    assert "an extractor failed unexpectedly" in caplog.text


def test_an_exception_that_cannot_travel_is_unexpected_too(failing: Any) -> None:
    assert type(domain_error(caught(failing.fail_oddly.remote()), "an extractor")) is Unexpected


@pytest.mark.parametrize("error", [MemoryError(), pa.ArrowMemoryError("malloc of size 1 failed")], ids=repr)
def test_an_actor_that_gets_no_more_memory_lives_and_is_asked_for_less(failing: Any, error: Exception) -> None:
    raised = caught(failing.fail.remote(error))
    found = domain_error(raised, "an extractor")
    assert type(found) is OutOfMemory
    assert type(error).__name__ in found.message
    assert not actor_is_gone(raised)


@pytest.mark.parametrize(
    ("error", "no_room"),
    [(ray_errors.ActorDiedError(), False), (ray_errors.OutOfDiskError(OBJECT, None, ""), True)],
    ids=["died", "full"],
)
def test_an_actor_that_reads_what_another_one_lost_is_not_gone_itself(
    failing: Any, error: Exception, no_room: bool
) -> None:
    lost = failing.fail.remote(error)
    raised = caught(failing.take.remote(lost))
    found = domain_error(raised, "a writer")
    assert isinstance(found, RowsLost)
    assert found.no_room is no_room
    assert not actor_is_gone(raised)


def test_a_cancelled_call_is_a_loss_without_a_culprit(failing: Any) -> None:
    call = failing.hang.remote()
    ray.cancel(call)
    raised = caught(call)
    assert isinstance(raised, ray_errors.TaskCancelledError)
    assert type(domain_error(raised, "an extractor")) is ActorLost
    assert not actor_is_gone(raised)


@pytest.mark.parametrize("how", ["kill -9", "ray.kill"])
def test_a_killed_actor_stays_dead(how: str) -> None:
    actor = start(Failing)
    pid = ray.get(actor.pid.remote())
    hanging = actor.hang.remote()
    if how == "kill -9":
        os.kill(pid, signal.SIGKILL)
    else:
        ray.kill(actor)
    for raised in (caught(hanging), caught(actor.pid.remote())):
        assert isinstance(raised, ray_errors.ActorDiedError)
        assert type(domain_error(raised, "an extractor")) is ActorLost
        assert actor_is_gone(raised)


def test_an_actor_that_cannot_be_made_is_lost_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ampd_ray")
    raised = caught(start(NeverStarts).pid.remote())
    found = domain_error(raised, "a writer")
    assert type(found) is ActorLost
    assert "hunter2" not in found.message
    assert "ValueError" in str(vars(caplog.records[-1])["error"])
