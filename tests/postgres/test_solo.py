"""Whose is the Postgres of a solo environment: of the environment and of every session that uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampd_ray.client.solo import DATABASE, inspect
from ampd_ray.client.solo_lock import Sessions, only_one
from ampd_ray.errors import SoloFailed
from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.schema import migrate
from tests.servers import run_apart


def test_the_last_one_that_uses_it_stops_it(server_dir: Path) -> None:
    sessions = Sessions(server_dir)
    environment = EmbeddedPostgres(server_dir / DATABASE)
    with only_one(server_dir):
        dsn = environment.start()
        run_apart(lambda: migrate(dsn))
        joined = inspect(server_dir)
        assert sessions.kept(), "it does not end while this session is there"
        joined.calls.check()
        environment.stop()
    assert joined.jobs() == []
    with pytest.raises(SoloFailed, match="has ended"):
        joined.calls.check()

    alone = inspect(server_dir)
    joined.close()
    assert not sessions.kept()
    assert alone.jobs() == []

    environment.start()
    alone.close()
    assert environment.running()
    environment.stop()
    assert not environment.running()
    sessions.close()
