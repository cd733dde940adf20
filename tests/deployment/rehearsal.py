"""What ``cluster.yaml`` and ``deploy/kuberay.yaml`` start, on this machine: ``python -m tests.deployment.rehearsal``.

Three Ray nodes by the start commands of ``cluster.yaml``, the fleet by the command of ``deploy/kuberay.yaml``, a job on
it; then the fleet's container is killed and started again, as a kubelet would. All of it in namespaces of its own, with
addresses, processes and a ``/tmp/ray`` that nobody else sees. Needs root.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ampd_ray import connect
from ampd_ray.metadb.embedded import EmbeddedPostgres
from tests.fakes.devnet import devnet
from tests.fakes.places import REPO
from tests.fakes.site import ends_as, register, wait_until

INSIDE = "AMPD_REHEARSAL"
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--net")
PREPARE = """
ip link set lo up
for number in 1 2 3; do ip address add 10.9.9.$number/24 dev lo; done
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray
exec "$0" -m tests.deployment.rehearsal
"""
HOME = Path("/tmp/ray/home")
MACHINES = ("head", "amp_node", "extract")
SECS = 180.0


class Cluster:
    """The machines of ``cluster.yaml``, and what they were told."""

    def __init__(self, database_url: str):
        self._launched: dict[str, Any] = yaml.safe_load((REPO / "cluster.yaml").read_text())
        self._amp = HOME / "amp"
        self._amp.mkdir(parents=True)
        directories = {name: HOME / name for name in ("data", "providers", "manifests")}
        for directory in directories.values():
            directory.mkdir()
        self.config = self._amp / "amp.toml"
        self.config.write_text("".join(f'{name}_dir = "{place}"\n' for name, place in directories.items()))
        self.token = secrets.token_hex(32)
        (self._amp / "auth_token").write_text(self.token)
        (self._amp / "secrets.env").write_text(f"AMP_CONFIG_METADATA_DB_URL='{database_url}'\n")
        self.env = {
            "HOME": str(HOME),
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "PYTHONPATH": str(REPO),
            "RAY_AUTH_MODE": "token",
            "RAY_JOB_STOP_WAIT_TIME_S": "40",
        }

    def start(self, number: int) -> None:
        """Start a machine as the launcher does, but for what would ask a cloud for more of them."""
        which = "head" if number == 0 else "worker"
        command = self._launched[f"{which}_start_ray_commands"][-1].replace("~/", f"{HOME}/")
        command = command.replace(f"--autoscaling-config={HOME}/ray_bootstrap_config.yaml", "")
        ports = f"--dashboard-agent-listen-port={52365 + number} --metrics-export-port={52465 + number}"
        resources = json.dumps(self._launched["available_node_types"][MACHINES[number]]["resources"])
        told = {
            "RAY_AUTH_TOKEN_PATH": str(self._amp / "auth_token"),
            "AMP_CONFIG": str(self.config),
            "RAY_OVERRIDE_RESOURCES": resources,
            "RAY_HEAD_IP": "10.9.9.1",
        }
        small = f"--object-store-memory={100 << 20} --node-ip-address=10.9.9.{number + 1} {ports}"
        run(["bash", "-c", f"{command} {small}"], self.env | told)

    def fleet(self) -> subprocess.Popen[bytes]:
        """The head pod's container that keeps the fleet."""
        (manifest,) = [
            document
            for document in yaml.safe_load_all((REPO / "deploy" / "kuberay.yaml").read_text())
            if document["kind"] == "RayCluster"
        ]
        container = manifest["spec"]["headGroupSpec"]["template"]["spec"]["containers"][1]
        script = container["args"][0].replace("/opt/ampd-ray/jobs", str(REPO / "jobs"))
        with (HOME / "fleet.log").open("ab") as log:
            return subprocess.Popen([*container["command"], script], env=self.submitting(), stdout=log, stderr=log)

    def submitting(self, token: str | None = None) -> Mapping[str, str]:
        """What who submits a Ray job has."""
        told = {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265", "RAY_AUTH_TOKEN": token or self.token}
        return self.env | told


def run(command: list[str], env: Mapping[str, str]) -> str:
    """Run a command to its good end; what it said."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=SECS)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def rehearse(database_url: str, rpc_url: str) -> dict[str, Any]:
    """Do it all; the record."""
    cluster = Cluster(database_url)
    for number in range(len(MACHINES)):
        cluster.start(number)
    stranger = cluster.submitting(token="0" * 64)
    refused = subprocess.run(["ray", "job", "list"], env=stranger, capture_output=True, check=False, timeout=SECS)
    os.environ["AMP_CONFIG_METADATA_DB_URL"] = database_url
    run(
        ["ampd", "migrate", "--config", str(cluster.config)], cluster.env | {"AMP_CONFIG_METADATA_DB_URL": database_url}
    )
    provider = f'kind = "evm-rpc"\nnetwork = "devnet"\nurl = "{rpc_url}"\n'
    (HOME / "providers" / "devnet.toml").write_text(provider)
    fleet = cluster.fleet()
    with connect(cluster.config) as client:

        def alive() -> list[str]:
            return [worker.node_id for worker in client.workers() if worker.alive]

        workers = wait_until(alive, SECS, "a worker")
        job = client.deploy(register(client, "eth").model_copy(update={"end_block": "200"}))
        outcome = ends_as(client, job.id)
        fleet.kill()
        fleet.wait()
        fleet = cluster.fleet()
        wait_until(lambda: not alive(), SECS, "the end of the former fleet")
        wait_until(alive, SECS, "the next one")
        run(["ray", "job", "stop", "fleet"], cluster.submitting())
        code = fleet.wait(SECS)
        left = alive()
    return {"stranger": refused.returncode, "workers": workers, "job": str(outcome), "fleet": code, "left": left}


def main() -> int:
    """Go into namespaces, and do it there."""
    if INSIDE not in os.environ:
        command = [*NAMESPACES, "bash", "-ec", PREPARE, sys.executable]
        return subprocess.run(command, cwd=REPO, check=False, env=os.environ | {INSIDE: "1"}).returncode
    postgres = EmbeddedPostgres(Path("/tmp/ray/metadb"))
    try:
        with devnet(200) as chain:
            record = rehearse(postgres.start(), chain.url)
    finally:
        postgres.stop(patience=1.0)
    print(json.dumps(record))
    good = {"stranger": 1, "workers": ["amp-10.9.9.2"], "job": "COMPLETED", "fleet": 0, "left": []}
    return int(record != good)


if __name__ == "__main__":
    sys.exit(main())
