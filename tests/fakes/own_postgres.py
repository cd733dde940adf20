"""A server of a test's own, which it may stop, crash and start again; it is as durable as any."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from threading import Thread

import psycopg

from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.postmaster import Postmaster
from ampd_ray.metadb.schema import migrate
from tests.servers import GRANTS, WORKER, as_owner, as_user, data_root, make_roles, run_apart

GONE_SECS = 30.0


class Stop(Enum):
    """The ways in which a server ends."""

    FAST = signal.SIGINT  # sessions are ended, everything is written
    IMMEDIATE = signal.SIGQUIT  # as after a crash: the next start recovers
    KILLED = signal.SIGKILL


class OwnPostgres:
    """A running server with a migrated database, of which ``url`` is the address for workers. ``stops`` counts."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.stops = 0
        self._starting: Thread | None = None
        self._server = EmbeddedPostgres(data_dir)
        owner_url = self._server.start()
        make_roles(owner_url)
        run_apart(lambda: migrate(owner_url, grants=GRANTS))
        self.url = as_user(WORKER, owner_url)

    def stop(self, how: Stop) -> None:
        """End it, and wait until it is gone."""
        running = Postmaster.read(self.data_dir.resolve())
        assert running is not None
        os.kill(running.pid, how.value)
        deadline = time.monotonic() + GONE_SECS
        while self._server.running():
            assert time.monotonic() < deadline, "the server does not end"
            time.sleep(0.01)
        self.stops += 1

    def start(self) -> None:
        """Start it again, at the same address."""
        assert as_user(WORKER, self._server.start()) == self.url

    def start_without_waiting(self) -> None:
        """The same, in the background: it takes sessions a moment before it is known to."""
        if self._starting is not None:
            self._starting.join()
        self._starting = Thread(target=self.start)
        self._starting.start()

    def end(self) -> None:
        """Stop it for good."""
        if self._starting is not None:
            self._starting.join()
        self._server.stop(patience=1.0)

    def execute(self, statement: str) -> None:
        with psycopg.connect(as_owner(self.url), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def own_postgres(data_dir: Path | None = None) -> Iterator[OwnPostgres]:
    """Such a server, in a directory of its own unless another is given."""
    root = data_root()
    server = None
    try:
        server = OwnPostgres(data_dir or root / "metadb")
        yield server
    finally:
        if server is not None:
            server.end()
        shutil.rmtree(root)
