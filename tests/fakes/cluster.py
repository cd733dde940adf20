"""A Ray cluster of several Ray nodes on this machine, made of ``ray start`` processes that are ended by their pids."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.fakes.hosts import free_port
from tests.fakes.site import wait_until
from tests.fakes.worker import end_all, environment

RAY = Path(sys.executable).with_name("ray")
HOST = "127.0.0.1"
START_SECS = 90.0


@dataclass(frozen=True)
class Cluster:
    """A running cluster. ``env`` is what processes that use it need, ``ray_nodes`` its Ray nodes, the head first."""

    address: str
    dashboard: str
    env: Mapping[str, str]
    ray_nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def actors(self, ray_node: int) -> list[str]:
        """The classes of the actors that live on a Ray node."""
        found = actors_below(self.ray_nodes[ray_node].pid) if self.ray_nodes[ray_node].poll() is None else {}
        return [name for name, processes in found.items() for _ in processes]

    def kill(self, ray_node: int) -> None:
        """Let a Ray node vanish with all that is on it."""
        tree = tree_of(self.ray_nodes[ray_node].pid) if self.ray_nodes[ray_node].poll() is None else []
        self.ray_nodes[ray_node].kill()
        end_all(tree)
        self.ray_nodes[ray_node].wait()

    def ray(self, *arguments: str, within: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a ``ray`` command to its end, whatever comes of it."""
        command = [str(RAY), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=within, check=False, env=environment(self.env)
        )


@contextmanager
def cluster(directory: Path, *, ray_nodes: int, cpus: int) -> Iterator[Cluster]:
    """``ray_nodes`` Ray nodes of ``cpus`` CPUs each; the first is stable, with a dashboard. ``directory`` is short."""
    gcs, dashboard = free_port(), free_port()
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(directory),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    }
    running = Cluster(f"{HOST}:{gcs}", f"http://{HOST}:{dashboard}", env)
    common = ["--block", "--num-cpus", str(cpus), "--object-store-memory", str(128 << 20)]
    head = [
        "--head",
        "--node-name",
        "head",
        "--resources",
        '{"amp_node": 1}',
        "--node-ip-address",
        HOST,
        "--port",
        str(gcs),
        "--dashboard-host",
        HOST,
        "--dashboard-port",
        str(dashboard),
    ]
    running.ray_nodes.append(_start(directory, env, [*common, *head, "--include-dashboard", "true"]))
    try:
        wait_until(lambda: listens(gcs) and listens(dashboard), START_SECS, "the head of the cluster")
        for number in range(1, ray_nodes):
            join = ["--address", running.address, "--node-ip-address", f"127.0.0.{number + 1}"]
            join += ["--temp-dir", str(directory / str(number))]  # what Ray jobs bring is each machine's own
            running.ray_nodes.append(_start(directory, env, [*common, *join]))
        yield running
    finally:
        for number in range(len(running.ray_nodes)):
            running.kill(number)


def _start(directory: Path, env: Mapping[str, str], arguments: list[str]) -> subprocess.Popen[bytes]:
    with (directory / "ray.log").open("ab") as log:
        return subprocess.Popen(
            [str(RAY), "start", "--dashboard-agent-listen-port", str(free_port()), *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(env), start_new_session=True,
        )  # fmt: skip


def actors_below(pid: int) -> dict[str, list[psutil.Process]]:
    """The processes of our actors below ``pid``, by class."""
    found: dict[str, list[psutil.Process]] = {}
    for process in tree_of(pid):
        if title := re.match(r"ray::(\w+Actor)\b", _title(process)):
            found.setdefault(title[1], []).append(process)
    return found


def tree_of(pid: int) -> list[psutil.Process]:
    """All processes below ``pid``; none if it is gone."""
    try:
        below: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return below


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def listens(port: int) -> bool:
    """True if somebody takes connections there."""
    with closing(socket.socket()) as client:
        return client.connect_ex((HOST, port)) == 0
