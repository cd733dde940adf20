"""Workers and extractors on a Ray cluster of several raylets, each of which may be lost at any time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.nodes import Node
from tests.chaos.world import World, world
from tests.fakes.cluster import tree_of
from tests.fakes.raylets import Raylets, raylets
from tests.fakes.site import Site
from tests.fakes.worker import Worker

NAMES = ("north", "south")
ELSEWHERE = 2  # extractors of a worker, but for the one beside it
STABLE, EXTRACT = {"amp_node": 1.0}, {"extract": 1.0}


class OnRaylet(Node):
    """A Node ID whose workers stand on a stable raylet of their own, replaced where it was lost."""

    def __init__(self, cluster: Raylets, site: Site, node_id: str, env: Mapping[str, str], scratch: Path) -> None:
        self._cluster = cluster
        self.raylet: int | None = None
        super().__init__(site, node_id, env, scratch)

    def launch(self) -> Worker:
        """On a new raylet, if that of the last one is gone."""
        if self.raylet is None or not self._cluster.alive(self.raylet) or self.asked:
            self.raylet = self._cluster.add(cpus=1, env=self._of_actors, resources=STABLE)
        arguments = ["--address", self._cluster.address]
        env = {**self._env, **self._cluster.env}
        return Worker(self._site, self.node_id, arguments, env, ampd=self._cluster.ampd(self.raylet))

    @property
    def _of_actors(self) -> dict[str, str]:
        return {key: value for key, value in self._env.items() if not key.startswith("RAY_")}

    @property
    def processes(self) -> list[psutil.Process]:
        """The driver, its raylet, and all that is on it."""
        there = self.raylet is not None and self._cluster.alive(self.raylet)
        return [*super().processes, *(tree_of(self._cluster.pid(self.raylet or 0)) if there else [])]

    def vanish(self) -> None:
        """The machine goes, with all that is on it."""
        assert self.raylet is not None
        self.worker.process.kill()
        self._cluster.remove(self.raylet)
        self.held = False

    def give_notice(self, secs: float) -> None:
        """The machine is going to go; until it has gone there is no other."""
        assert self.raylet is not None
        self.asked = self.held = True
        self._cluster.drain(self.raylet, secs)


class Extractors:
    """The raylet that only extractors are on, replaced where it was lost."""

    def __init__(self, cluster: Raylets) -> None:
        self._cluster = cluster
        self.renew()

    def renew(self) -> None:
        """A new one."""
        self.number = self._cluster.add(cpus=ELSEWHERE * len(NAMES), resources=EXTRACT)

    def at_work(self) -> int:
        """How many of them have tasks."""
        found = self._cluster.actors(self.number).get("ExtractorActor", [])
        return sum(".extract" in " ".join(_title(process)) for process in found)

    def vanish(self) -> None:
        """The machine goes, with all that is on it."""
        self._cluster.remove(self.number)

    def give_notice(self, secs: float) -> None:
        """The machine is going to go."""
        self._cluster.drain(self.number, secs)

    @property
    def alive(self) -> bool:
        """Whether it is there; Ray ends one that drains once nothing is left on it."""
        return self._cluster.alive(self.number)


def _title(process: psutil.Process) -> list[str]:
    try:
        title: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return title


@contextmanager
def on_cluster(directory: Path) -> Iterator[tuple[World, Extractors]]:
    """A world whose workers are on one cluster: a head without CPUs, two stable raylets and one of extractors."""
    with raylets(directory) as cluster:
        cluster.add(cpus=0)

        def start(here: World, node_id: str, env: Mapping[str, str]) -> Node:
            return OnRaylet(cluster, here.site, node_id, env, here.directory)

        each = ELSEWHERE + 1
        ours: dict[str, Any] = {"extractors": each, "min_extractors": each, "extractor_resources.extract": 0.001}
        with world(NAMES, start, **ours) as here:
            yield here, Extractors(cluster)
