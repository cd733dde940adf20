"""When one fault leaves room for another, and what proves that it happened."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.chaos.faults import DRAINING, Drain
from tests.chaos.plan import Fault, Outside
from tests.chaos.world import World


class Node(SimpleNamespace):
    """A worker that can be asked to end, and has said nothing yet."""

    def __init__(self) -> None:
        super().__init__(pid=1, alive=True, said=[], asked=0)
        self.worker = SimpleNamespace(log=lambda: "\n".join(self.said))

    def drain(self) -> None:
        self.asked += 1


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def other() -> Node:
    """The one that is hit if the first can be hit no more."""
    return Node()


@pytest.fixture
def drain(node: Node, other: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drain:
    """A drain of ``node`` that has just been asked for."""
    injection = Drain(
        cast("World", SimpleNamespace(fired=tmp_path)), Fault(Outside.DRAIN, at=0.0, secs=1.0), cast("Any", None)
    )
    injection.node = cast("Any", node)
    injection.start()
    monkeypatch.setattr(injection, "aim", lambda: setattr(injection, "node", other))
    return injection


def is_over(drain: Drain) -> bool:
    return drain.over


def leaves_room(drain: Drain) -> bool:
    return drain.leaves_room


def test_nobody_else_is_hit_until_a_drain_was_heard(drain: Drain, node: Node) -> None:
    drain.tend()
    assert not leaves_room(drain)
    node.said.append(DRAINING)
    drain.tend()
    assert leaves_room(drain)
    assert not is_over(drain)


def test_one_that_dies_at_the_failpoint_has_heard(drain: Drain, node: Node, tmp_path: Path) -> None:
    (tmp_path / "draining.0000").touch()
    node.alive = False
    drain.tend()
    assert is_over(drain)
    drain.end()
    assert (drain.fired, node.asked) == (1, 1)


def test_where_one_is_killed_before_it_heard_another_is_asked(drain: Drain, node: Node, other: Node) -> None:
    node.alive = False
    drain.tend()
    assert not is_over(drain)
    assert (node.asked, other.asked) == (1, 1)
    other.said.append(DRAINING)
    other.alive = False
    drain.tend()
    assert is_over(drain)
    drain.end()
    assert drain.fired == 1


def test_if_none_of_them_hears_there_was_no_drain(drain: Drain, node: Node, other: Node) -> None:
    node.alive = other.alive = False
    for _ in range(9):
        drain.tend()
    assert (node.asked, other.asked) == (1, Drain.tries - 1)
    assert is_over(drain)
    drain.end()
    assert drain.fired == 0


def test_one_that_heard_and_lives_on_did_not_drain(drain: Drain, node: Node) -> None:
    node.said.append(DRAINING)
    drain.tend()
    drain.end()
    assert drain.fired == 0
