"""When one fault leaves room for another, and what proves that it happened."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from tests.chaos.faults import DRAINING, Disturb, Drain, PauseWriter
from tests.chaos.plan import Fault, Outside
from tests.chaos.world import World


class Node(SimpleNamespace):
    """A worker that can be asked to end, and has said nothing yet."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id=node_id, pid=1, alive=True, up=True, said=[], asked=0)
        self.worker = SimpleNamespace(log=lambda: "\n".join(self.said))

    def drain(self) -> None:
        self.asked += 1


@pytest.fixture
def node() -> Node:
    return Node("north")


@pytest.fixture
def other() -> Node:
    """The one that has the job if the first is gone."""
    return Node("south")


@pytest.fixture
def lines() -> dict[str, SimpleNamespace]:
    """To the database."""
    return {name: SimpleNamespace(fired=Counter(), disturbed=False) for name in ("north", "south")}


@pytest.fixture
def world(node: Node, other: Node, lines: dict[str, SimpleNamespace], tmp_path: Path) -> World:
    around = SimpleNamespace(
        lines=lines,
        disturb=lambda line, fault: setattr(line, "disturbed", True),
        mend=lambda line: setattr(line, "disturbed", False),
    )
    return cast(
        "World",
        SimpleNamespace(
            fired=tmp_path,
            around=around,
            until=lambda found, within, what: found(),
            node_of=lambda job: node if node.alive else other,
        ),
    )


@pytest.fixture
def drain(world: World) -> Drain:
    """A drain of the first that has just been asked for."""
    injection = Drain(world, Fault(Outside.DRAIN, at=0.0, secs=1.0), cast("Any", None))
    injection.aim()
    injection.start()
    return injection


@pytest.fixture
def held(world: World) -> Disturb:
    """A line that has just been held back, that of the first."""
    injection = Disturb(world, Fault(Outside.BLACKHOLE, at=0.0, secs=6.0), cast("Any", None))
    injection.aim()
    injection.start()
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


def test_where_a_worker_ends_before_its_line_is_felt_anothers_is_disturbed(
    held: Disturb, node: Node, lines: dict[str, SimpleNamespace]
) -> None:
    held.tend()
    assert (lines["north"].disturbed, lines["south"].disturbed) == (True, False)
    node.alive = False
    held.tend()
    assert (lines["north"].disturbed, lines["south"].disturbed) == (False, True)
    lines["south"].fired[Outside.BLACKHOLE] += 2
    held.tend()
    held.end()
    assert held.fired == 2
    assert not lines["south"].disturbed


def test_what_a_worker_has_felt_counts_when_it_ends(
    held: Disturb, node: Node, lines: dict[str, SimpleNamespace]
) -> None:
    lines["north"].fired[Outside.BLACKHOLE] += 1
    node.alive = False
    held.tend()
    held.end()
    assert (held.fired, lines["south"].disturbed) == (1, False)


def test_a_disturbance_lasts_until_it_is_felt(world: World, lines: dict[str, SimpleNamespace]) -> None:
    """A worker whose coordinator has died says nothing for some seconds."""
    slow = Disturb(world, Fault(Outside.LATENCY, at=0.0, secs=0.0), cast("Any", None))
    slow.aim()
    slow.start()
    before = slow.over
    lines["north"].fired[Outside.LATENCY] += 1
    assert (before, slow.over) == (False, True)


def test_where_nothing_is_left_to_hit_another_node_is(
    world: World, node: Node, other: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer that was seen has ended meanwhile."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        writer = psutil.Process(process.pid)
        node.actors, other.actors = (lambda role: [writer]), (lambda role: [writer])
        pause = PauseWriter(world, Fault(Outside.PAUSE_WRITER, at=0.0, secs=1.0), cast("Any", None))
        pause.aim()
        node.actors, node.alive = (lambda role: []), False
        pause.start()
        assert pause.node is cast("Any", other)
        assert pause.fired == 1
        pause.end()
        process.kill()
