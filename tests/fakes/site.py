"""What workers share: a configuration file, its directories and a database; and how tests look at it from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampd_ray.client import Client
from ampd_ray.config import Settings, load_settings
from ampd_ray.config.directories import DIRECTORIES
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.store.files import open_store

LOOK_EVERY_SECS = 0.05
OURS = {"failover_group": "test", "node_lock_timeout_secs": 30.0, "drain_timeout_secs": 20.0}
SEGMENT_BYTES = 1 << 16  # so that a short job makes many commits


def wait_until(holds: Callable[[], Any], within: float = 60.0, what: str = "the condition") -> Any:
    """Look again and again until ``holds`` gives something true; returns it."""
    deadline = time.monotonic() + within
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} did not come true within {within:g} s"
        time.sleep(LOOK_EVERY_SECS)
    return found


@dataclass(frozen=True)
class Site:
    """A configuration in ``directory``. ``config`` is its file, ``url`` the database's."""

    directory: Path
    url: str

    @property
    def config(self) -> Path:
        return self.directory / "amp.toml"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    def settings(self) -> Settings:
        return load_settings(self.config, {})

    def client(self) -> Client:
        return Client(self.settings())


def make_site(
    directory: Path,
    url: str,
    rpc: str,
    *,
    network: str = "devnet",
    writer: Mapping[str, Any] | None = None,
    root: str | None = None,
    **ours: Any,
) -> Site:
    """Write the configuration and one provider; ``ours`` are keys of ``[ampd_ray]``, ``writer`` of ``[writer]``.

    ``root``: the URL below which the directories are, if they are not in ``directory``.
    """
    directories = {key: f"{root or directory}/{name}" for key, name in DIRECTORIES.items()}
    for place in [directory, *map(Path, () if root else directories.values())]:
        place.mkdir(parents=True, exist_ok=True)
    sections: dict[str, dict[str, Any]] = {
        "metadata_db": {"url": url},
        "ampd_ray": OURS | ours,
        "writer": {"bytes": SEGMENT_BYTES} | dict(writer or {}),
    }
    lines = ["poll_interval_secs = 0.1", *(f"{key} = {json.dumps(place)}" for key, place in directories.items())]
    for section, keys in sections.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    site = Site(directory, url)
    site.config.write_text("\n".join(lines) + "\n")
    add_provider(site, network, rpc)
    return site


def add_provider(site: Site, network: str, rpc: str, **keys: Any) -> None:
    """Write the provider file of a network."""
    told = {"kind": "evm-rpc", "network": network, "url": rpc} | keys
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items())
    open_store(site.settings().providers_dir).write(f"{network}.toml", lines.encode())


def register(client: Client, name: str, network: str = "devnet", start_block: int = 0) -> JobDescriptor:
    """Register a dataset; the descriptor of a job that follows its head."""
    ref = DatasetRef("_", name)
    return JobDescriptor.of(ref, client.register_dataset(ref, evm_rpc_manifest(network, start_block)))


def ends_as(client: Client, job_id: int, within: float = 120.0) -> JobStatus:
    """Wait for the job's end; its last status."""
    return client.job(job_id).outcome(within).status
