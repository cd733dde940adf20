"""A Ray cluster of several raylets on this machine: ``ray.cluster_utils.Cluster`` in a process of its own.

The pytest process must not hold it: what a raylet inherits from its environment is decided before ``ray`` is imported.

    python -m tests.fakes.raylets {"head": arguments of its add_node}

reads a command a line from standard input and answers each with a line of JSON; at the end of its input it ends with
all that it started.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.fakes.cluster import actors_below, tree_of
from tests.fakes.hosts import free_port
from tests.fakes.places import REPO
from tests.fakes.worker import end_all, environment

HEALTH = {  # a raylet that is gone is noticed within two seconds in place of sixteen
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}
MEBIBYTES = 1 << 20
END_SECS = 30.0


class Raylets:
    """A running cluster. ``env`` is what processes that use it need; the head is number 0."""

    def __init__(self, directory: Path, env: Mapping[str, str]):
        self.env = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(directory),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
            **env,
        }
        self._log = (directory / "raylets.log").open("wb")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.raylets"], cwd=REPO, env=environment(self.env), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        self._pids: list[int] = []
        self.address = ""

    def add(
        self,
        *,
        cpus: int,
        store_bytes: int = 100 * MEBIBYTES,
        env: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
        dashboard: bool = False,
    ) -> int:
        """Start a raylet, the head first; its number. ``env`` is for it and its actors only."""
        number = len(self._pids)
        told: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": store_bytes, "env_vars": dict(env or {})}
        told |= {"resources": dict(resources or {})}
        if dashboard:  # the head's, on a port that nobody else has
            told |= {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": free_port()}
        said = self._ask(do="add", node=told | {"node_ip_address": self.host(number)})
        self.address = said["address"]
        self._pids.append(said["pid"])
        return number

    @property
    def count(self) -> int:
        """How many raylets were started; those that are gone count."""
        return len(self._pids)

    def host(self, number: int) -> str:
        """The address by which a raylet is known; never 127.0.0.1, which Ray replaces by one of the network."""
        return f"127.0.0.{number + 2}"

    def ampd(self, number: int) -> list[str]:
        """The command ``ampd`` at a raylet, as if this machine had no other."""
        return [sys.executable, "-m", "tests.fakes.on_raylet", self.host(number)]

    def pid(self, number: int) -> int:
        """The process of a raylet; its actors are below it."""
        return self._pids[number]

    def alive(self, number: int) -> bool:
        """Whether a raylet runs; one that nobody has collected yet does not."""
        try:
            return bool(psutil.Process(self._pids[number]).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def processes(self) -> list[psutil.Process]:
        """All of the cluster, its tables' server included."""
        return tree_of(self._server.pid)

    def actors(self, number: int) -> dict[str, list[psutil.Process]]:
        """The processes of the actors on a raylet, by class."""
        return actors_below(self._pids[number])

    def remove(self, number: int) -> None:
        """Let a raylet vanish, and all that is on it."""
        tree = tree_of(self._pids[number])
        self._ask(do="remove", number=number)
        end_all(tree)

    def drain(self, number: int, secs: float) -> None:
        """Give notice that a raylet goes in so many seconds, as an autoscaler does; whoever does so ends it as well."""
        self._ask(do="drain", number=number, secs=secs)

    def kill(self) -> None:
        """Kill all of the cluster at one time."""
        self._ask(do="kill")

    def end(self) -> None:
        """End the cluster, whatever state it is in."""
        left = tree_of(self._server.pid)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        try:
            self._server.wait(END_SECS)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        end_all(left)
        self._server.stdout.close()
        self._log.close()

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(command), file=self._server.stdin, flush=True)
        for line in self._server.stdout:  # Ray may say something between
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                return said
        raise AssertionError(f"the cluster is gone; see {self._log.name}")


@contextmanager
def raylets(directory: Path, env: Mapping[str, str] | None = None) -> Iterator[Raylets]:
    """An empty cluster, to be given its head first. ``directory`` must be short, ``env`` is for all raylets."""
    running = Raylets(directory, env or {})
    try:
        yield running
    finally:
        running.end()


def serve() -> None:
    """Obey the commands on standard input."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.cluster_utils import Cluster

    from ampd_ray.actors.draining import PREEMPTION

    cluster = Cluster()
    nodes: list[Any] = []
    for line in sys.stdin:
        command = json.loads(line)
        match command["do"]:
            case "add":
                of_head: dict[str, Any] = {} if nodes else {"_system_config": HEALTH, "include_dashboard": False}
                nodes.append(cluster.add_node(**of_head | command["node"]))
                (raylet,) = nodes[-1].all_processes["raylet"]
                said = {"address": cluster.address, "pid": raylet.process.pid}
            case "remove":
                cluster.remove_node(nodes[command["number"]], allow_graceful=False)
                said = {}
            case "drain":
                deadline_ms = int((time.time() + command["secs"]) * 1000)
                node_id = nodes[command["number"]].node_id
                accepted, why = GcsClient(address=cluster.address).drain_node(node_id, PREEMPTION, "test", deadline_ms)
                assert accepted, why
                said = {}
            case "kill":
                for node in nodes:
                    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=False)
                said = {}
            case other:
                raise ValueError(other)
        print(json.dumps(said), flush=True)
    cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    serve()
