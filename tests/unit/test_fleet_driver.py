"""The driver of a fleet whose Ray is in trouble; the rest of it is for tests with a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RpcError

from ampd_ray.actors import fleet, signals
from ampd_ray.config import load_settings
from ampd_ray.errors import RayUnavailable
from ampd_ray.node.places import RayNode

AWAY: Exception = RpcError("away")  # type: ignore[no-untyped-call]
A = RayNode("a", "10.0.0.1", 8.0, stable=True)


class Run:
    """A coordinator, and the run of it that ends when it is told to."""

    def __init__(self) -> None:
        self.run = self

    def remote(self) -> Run:
        return self


class Cluster:
    """A cluster of one Ray node; after the first look its head is ``away`` for some."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.looks = 0
        self.runs: list[Run] = []

    def ray_nodes(self) -> list[RayNode]:
        self.looks += 1
        if 1 < self.looks <= 1 + self.away:
            raise AWAY
        return [A]

    def start(self, *_: Any, **__: Any) -> Run:
        self.runs.append(Run())
        return self.runs[-1]


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fleet._Driver]:
    monkeypatch.setattr(fleet, "LOOK_SECS", 0.0)
    monkeypatch.setattr(fleet, "SIGNAL_CHECK_SECS", 0.0)
    monkeypatch.setattr(fleet, "LAST_LINES_SECS", 0.0)
    with signals.restored():
        yield fleet._Driver(load_settings(None, {}, solo_dir=tmp_path), "t-", {"version": "0"})


def away(*_: Any) -> list[RayNode]:
    raise AWAY


def test_with_nobody_left_and_no_ray_to_ask_it_ends_with_one_clear_error(
    driver: fleet._Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "ray_nodes", away)
    with pytest.raises(RayUnavailable, match="the Ray cluster is gone, and all of its workers; nothing is lost"):
        driver.run()


def test_while_workers_run_a_head_that_is_away_is_said_once(
    driver: fleet._Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(away=3)
    monkeypatch.setattr(fleet, "ray_nodes", cluster.ray_nodes)
    monkeypatch.setattr(fleet, "start_coordinator", cluster.start)
    monkeypatch.setattr(fleet, "outcome", lambda run: 0)
    monkeypatch.setattr(ray, "kill", away)

    def wait(runs: list[Run], timeout: float) -> tuple[list[Run], list[Run]]:
        return (runs if cluster.looks > 5 else []), []

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(driver._fleet, "ended", ended_and_drained(driver))
    assert driver.run() == 0
    assert len(cluster.runs) == 1
    assert [record.message for record in caplog.records].count(fleet.AWAY) == 1


def ended_and_drained(driver: fleet._Driver) -> Any:
    """The end of a coordinator, with which the test ends."""
    ended = driver._fleet.ended

    def both(node_id: str, code: int, now: float) -> None:
        ended(node_id, code, now)
        driver._fleet.drain()

    return both
