"""A Ray cluster that grows and shrinks on this machine: Ray's fake multi-node autoscaler, in namespaces of its own.

What Ray starts here looks like any other Ray to a machine: ports, sockets, processes. So all of it, and what it works
for, runs in a network, a process table and a ``/tmp/ray`` of its own, and ends with them.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from tests.fakes.cluster import HOST, RAY, START_SECS, listens
from tests.fakes.site import wait_until
from tests.fakes.worker import environment

PORT: Final = 6379  # which the fake provider expects
STORE_BYTES: Final = 128 << 20
_APART: Final = 'ip link set lo up && mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && exec "$@"'
_LISTS: Final = (
    "cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands",
    "head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
)  # fmt: skip
_UNSHARE: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net")


def apart(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a module of ours where nothing of the machine's Ray can be seen, or harmed."""
    return [*_UNSHARE, "bash", "-c", _APART, "apart", sys.executable, "-m", module, *arguments]


def can_be_apart() -> bool:
    """Whether we may: it takes root, and a kernel that lets it."""
    try:
        return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@dataclass(frozen=True)
class Autoscaled:
    """A running cluster. ``env`` is what processes that use it need."""

    address: str
    env: dict[str, str]

    def nodes(self) -> int:
        """How many Ray nodes there are, the head included."""
        return len(_named("raylet"))

    def extractors(self) -> int:
        """How many extractors run."""
        return len(_named("ray::ExtractorActor"))


@contextmanager
def autoscaled(directory: Path, *, most: int, idle_secs: float) -> Iterator[Autoscaled]:
    """A stable head without CPUs, and up to ``most`` Ray nodes of one CPU, which go once they were idle so long."""
    config = directory / "autoscaler.json"
    config.write_text(json.dumps(_config(most, idle_secs)))
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    }
    told = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    command = [
        str(RAY),
        "start",
        "--head",
        "--block",
        "--port",
        str(PORT),
        "--num-cpus",
        "0",
        "--include-dashboard",
        "false",
    ]
    command += ["--resources", json.dumps({"amp_node": 1}), "--object-store-memory", str(STORE_BYTES)]
    with (directory / "ray.log").open("wb") as log:
        head = subprocess.Popen(
            [*command, "--autoscaling-config", str(config)], stdout=log, stderr=log, env=environment(env | told)
        )
    try:
        wait_until(lambda: listens(PORT) or head.poll() is not None, START_SECS, "the head of the cluster")
        assert head.poll() is None, (directory / "ray.log").read_text()
        yield Autoscaled(f"{HOST}:{PORT}", env)
    finally:
        head.kill()
        head.wait()


def _config(most: int, idle_secs: float) -> dict[str, Any]:
    """As ``ray start --autoscaling-config`` wants it; the example that Ray would begin with is not in its wheel."""
    nothing: dict[str, Any] = {"auth": {}, "file_mounts": {}} | {name: [] for name in _LISTS}
    head, extract = {"CPU": 0, "amp_node": 1}, {"CPU": 1, "object_store_memory": STORE_BYTES}
    return nothing | {
        "cluster_name": "fake",
        "max_workers": most,
        "idle_timeout_minutes": idle_secs / 60,
        "upscaling_speed": 100.0,  # our own demand is what is to be seen
        "file_mounts_sync_continuously": False,
        "head_node_type": "ray.head.default",
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": head, "node_config": {}, "max_workers": 0},
            "extract": {"resources": extract, "node_config": {}, "min_workers": 0, "max_workers": most},
        },
    }


def _named(name: str) -> list[psutil.Process]:
    """The processes whose command is ``name``, with its path or not."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[0].rpartition("/")[2].startswith(name)
    ]
