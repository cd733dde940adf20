"""A solo environment for a session: join the one that runs in a directory, or start it as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from pydantic import SecretStr

from ampd_ray.client.session import Client
from ampd_ray.client.solo_lock import runs_in
from ampd_ray.config import Settings, load_settings
from ampd_ray.errors import AmpdError, ConfigError, NodeInUse, NotFound
from ampd_ray.log import rotate
from ampd_ray.metadb.embedded import EmbeddedPostgres

READY_WITHIN_SECS = 120.0
STOP_WITHIN_SECS = 60.0
POLL_SECS = 0.1
LOG_NAME = "solo.log"
DATABASE = "metadb"


class SoloFailed(AmpdError):
    """The solo environment did not come up."""

    code = "SOLO_FAILED"


def local(amp_dir: str | Path = ".amp") -> Client:
    """A session with the solo environment in ``amp_dir``; one that this call had to start ends with the session."""
    directory = Path(amp_dir).expanduser().absolute()
    process = None if _live(directory) else SoloProcess(directory)
    try:
        return _connect(directory, process)
    except BaseException:
        if process is not None:
            process.stop()
        raise


def inspect(amp_dir: str | Path = ".amp") -> Client:
    """A session with the database of the solo environment in ``amp_dir``, without a worker.

    Joins the Postgres that runs, or runs it for as long as the session lasts. Raises ``NotFound`` without one.
    """
    directory = Path(amp_dir).expanduser().absolute()
    settings = load_settings(None, os.environ, solo_dir=directory)
    if settings.metadata_db.url is not None:
        return Client(settings)
    if not (directory / DATABASE).is_dir():
        raise NotFound(f"there is no solo environment in {directory}; `ampd solo` or `ampd backfill` makes one")
    postgres = EmbeddedPostgres(directory / DATABASE)
    settings = with_database(settings, postgres.start())
    try:
        return Client(settings, on_close=postgres.stop)
    except BaseException:
        postgres.stop()
        raise


class SoloProcess:
    """``ampd solo`` as a child. It ends when told to, and when its parent is gone: its standard input closes then."""

    def __init__(self, directory: Path):
        self._log = directory / LOG_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            rotate(self._log)
            log = self._log.open("ab")
        except OSError as error:
            raise ConfigError(f"a solo environment cannot use {directory}: {error.strerror}") from error
        with log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ampd_ray", "solo", "--amp-dir", str(directory), "--until-stdin-closes"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent, which then ends the job first
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    def check(self) -> None:
        """Raise ``SoloFailed`` if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise SoloFailed(
                f"the solo environment ended with exit code {code}: {self._reason()} (all of it: {self._log})"
            )

    def was_second(self) -> bool:
        """True if it ended because another one runs in the directory."""
        return self._process.poll() == NodeInUse.exit_code

    def stop(self) -> None:
        """Let it drain and end; by force if it takes too long."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_WITHIN_SECS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _reason(self) -> str:
        """Its own error line, else the last thing it said."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return [*(lines or ["it said nothing"])[-1:], *errors][-1][-500:]


def _settings(directory: Path) -> Settings | None:
    """The settings of a solo environment whose database runs; None if it does not."""
    settings = load_settings(None, os.environ, solo_dir=directory)
    if settings.metadata_db.url is not None:
        return settings
    dsn = EmbeddedPostgres.running_dsn(directory / DATABASE)
    return None if dsn is None else with_database(settings, dsn)


def with_database(settings: Settings, dsn: str) -> Settings:
    """The settings with the private database's address."""
    return settings.model_copy(
        update={"metadata_db": settings.metadata_db.model_copy(update={"url": SecretStr(dsn)})}
    )  # fmt: skip


def _live(directory: Path) -> bool:
    """True if this environment runs and its worker beats; a dead worker looks alive for five seconds more."""
    settings = _settings(directory) if runs_in(directory) else None
    if settings is None:
        return False
    try:
        with Client(settings) as client:
            return any(worker.alive for worker in client.workers())
    except AmpdError:
        return False


def _connect(directory: Path, process: SoloProcess | None) -> Client:
    """Wait until the environment's worker beats."""
    deadline = time.monotonic() + READY_WITHIN_SECS
    while True:
        if process is not None and process.was_second() and runs_in(directory):
            process = None  # somebody else has just started one: wait for that
        if process is not None:
            process.check()
        elif not runs_in(directory):
            raise SoloFailed(f"the solo environment in {directory} has ended; {LOG_NAME} there may say why")
        settings = _settings(directory) if _live(directory) else None
        if settings is not None:
            if process is None:
                return Client(settings)
            return Client(settings, on_close=process.stop, check=process.check)
        if time.monotonic() > deadline:
            raise SoloFailed(f"no worker came up in {directory} within {READY_WITHIN_SECS:.0f} s; see {LOG_NAME} there")
        time.sleep(POLL_SECS)
