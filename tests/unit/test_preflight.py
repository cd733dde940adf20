"""What a worker says while it waits for its Node ID."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ampd_ray.config import Settings
from ampd_ray.config.keys import AmpdRay
from ampd_ray.errors import NodeInUse, StoreError
from ampd_ray.metadb import workers
from ampd_ray.metadb.workers import Holder
from ampd_ray.node import preflight
from tests.fakes.object_stores import S3Server


async def held(*_: Any) -> Holder:
    return Holder(pid=1, application_name="somebody", same_role=False, ours=False)


async def not_ended(*_: Any) -> bool:
    return False


@pytest.mark.parametrize(("every_ms", "lines"), [(3_600_000, 1), (1, 2)])
async def test_a_node_id_in_use_is_logged_at_once_and_then_now_and_again(
    every_ms: int, lines: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "holder", held)
    monkeypatch.setattr(workers, "end_dead_session", not_ended)
    monkeypatch.setattr(preflight, "SAY_EVERY", timedelta(milliseconds=every_ms))
    monkeypatch.setattr(preflight, "ASK_EVERY", timedelta(milliseconds=5))
    with pytest.raises(NodeInUse):
        await preflight._until_free(None, "w1", timedelta(milliseconds=100))  # type: ignore[arg-type]
    said = [record for record in caplog.records if record.message.startswith("the node id is in use")]
    assert len(said) == lines if lines == 1 else len(said) >= lines


@pytest.mark.parametrize("wrong", ["data_dir", "manifests_dir", "providers_dir"])
async def test_a_directory_in_a_bucket_that_is_not_there_is_told_at_the_start(
    wrong: str, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    places: dict[str, Any] = {key: moto.url(f"{key}/") for key in ("data_dir", "manifests_dir", "providers_dir")}
    keys = AmpdRay(failover_group="g")
    await preflight.reach_stores(Settings(**places, ampd_ray=keys))
    with pytest.raises(StoreError, match="there is no bucket misspelt; create it, or correct the directory's URL"):
        await preflight.reach_stores(Settings(**places | {wrong: "s3://misspelt/x/"}, ampd_ray=keys))
