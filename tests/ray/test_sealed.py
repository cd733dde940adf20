"""Actors on a machine that does not know the metadata database: nothing that Ray carries has its address."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from ampd_ray import __version__
from ampd_ray.actors.coordinator import CoordinatorActor
from ampd_ray.actors.driver_watch import Watched
from ampd_ray.actors.failures import domain_error
from ampd_ray.actors.probed import PROBES
from ampd_ray.actors.writer import WriterActor
from ampd_ray.config import Sealed, load_settings, seal
from ampd_ray.errors import ConfigError, Handling
from ampd_ray.node.sizes import Sizes


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    """Settings whose file is on the driver's machine only."""
    file = tmp_path / "amp.toml"
    file.write_text('[metadata_db]\nurl = "postgresql://127.0.0.1:1/amp"\n')
    settings = load_settings(file, {})
    file.unlink()
    return seal(settings)


@pytest.mark.parametrize(
    ("plain", "arguments", "first_call"),
    [
        (CoordinatorActor, ("worker-1", {"version": __version__}, Sizes(1, 1), Watched.of(os.getpid())), "run"),
        (WriterActor, ("ampd-ray/worker-1",), "ready"),
    ],
    ids=["coordinator", "writer"],
)
def test_the_reason_and_the_way_out_reach_the_driver(
    sealed: Sealed, plain: type, arguments: tuple[Any, ...], first_call: str
) -> None:
    remote: Any = ray.remote
    actor = remote(num_cpus=0, concurrency_groups={PROBES: 1})(plain).remote(sealed, *arguments)
    with pytest.raises(Exception, match="does not know the metadata database") as raised:
        ray.get(getattr(actor, first_call).remote(), timeout=60)
    found = domain_error(raised.value, "an actor")
    assert isinstance(found, ConfigError)
    assert found.handling is Handling.FATAL
    assert "amp.toml does not exist" in found.message
    assert "AMP_CONFIG_METADATA_DB_URL" in found.message
    ray.kill(actor)
