"""When one fault leaves room for another, and what proves that it happened."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.chaos.faults import DRAINING, Drain
from tests.chaos.plan import Fault, Outside
from tests.chaos.world import World


@pytest.fixture
def node() -> Any:
    """A worker that can be asked to end, and has said nothing yet."""
    said: list[str] = []
    return SimpleNamespace(
        pid=1, alive=True, said=said, drain=lambda: None, worker=SimpleNamespace(log=lambda: "\n".join(said))
    )


@pytest.fixture
def drain(node: Any, tmp_path: Path) -> Drain:
    """A drain of ``node`` that has just been asked for."""
    world = cast("World", SimpleNamespace(fired=tmp_path))
    injection = Drain(world, Fault(Outside.DRAIN, at=0.0, secs=1.0), cast("Any", None))
    injection.node = node
    injection.start()
    return injection


def test_nobody_else_is_hit_until_a_drain_was_heard(drain: Drain, node: Any) -> None:
    assert not drain.leaves_room
    node.said.append(DRAINING)
    assert drain.leaves_room


def test_one_that_dies_at_the_failpoint_has_heard(drain: Drain, node: Any, tmp_path: Path) -> None:
    (tmp_path / "draining.0000").touch()
    node.alive = False
    drain.end()
    assert drain.fired == 1


def test_a_worker_killed_before_it_heard_did_not_drain(drain: Drain, node: Any) -> None:
    node.alive = False
    assert drain.leaves_room
    drain.end()
    assert drain.fired == 0


def test_one_that_heard_and_lives_on_did_not_drain(drain: Drain, node: Any) -> None:
    node.said.append(DRAINING)
    drain.end()
    assert drain.fired == 0
