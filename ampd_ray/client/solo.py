"""Sessions with the solo environment of a directory: in one that works, or only with its database."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pydantic import SecretStr

from ampd_ray.client.session import Client
from ampd_ray.client.solo_lock import running_process, runs_in
from ampd_ray.client.solo_session import SoloSession
from ampd_ray.config import Settings, load_settings
from ampd_ray.errors import AmpdError, NotFound, SoloFailed
from ampd_ray.metadb.embedded import EmbeddedPostgres

STOP_WITHIN_SECS = 90.0
POLL_SECS = 0.1
DATABASE = "metadb"


def local(amp_dir: str | Path = ".amp") -> Client:
    """A session with the solo environment in ``amp_dir``, which is started if none runs there.

    One that a session started lives for as long as a session uses it or a job runs in it, then it ends by itself; it
    outlives a kernel that is restarted or killed. ``close`` waits for that end in the session that started it, unless
    another session or a job goes on. Raises ``SoloFailed`` and ``ConfigError``.
    """
    session = SoloSession(_directory(amp_dir))
    try:
        session.begin(_live)
    except BaseException:
        session.leave()
        raise
    return _open(session.directory, session)


def inspect(amp_dir: str | Path = ".amp") -> Client:
    """A session with the database of the solo environment in ``amp_dir``; starts no worker.

    One that runs stays as long as the session, as with :func:`local`. Without one, Postgres alone runs for as long as
    the session lasts. Raises ``NotFound`` where there never was one.
    """
    directory = _directory(amp_dir)
    session = SoloSession(directory) if runs_in(directory) else None
    if session is not None and not session.join():
        session.leave()
        session = None
    return _open(directory, session)


def stop(amp_dir: str | Path = ".amp") -> int | None:
    """End the solo environment in ``amp_dir``, whoever uses it; its process, None if none ran.

    What is open is committed first, and its jobs resume in the next one. Called again meanwhile it does not wait for
    that. Raises ``SoloFailed`` if the end takes too long.
    """
    directory = _directory(amp_dir)
    pid = running_process(directory)
    if pid is not None:
        _terminate(pid)
    deadline = time.monotonic() + STOP_WITHIN_SECS
    while pid is not None and running_process(directory) == pid:
        if time.monotonic() > deadline:
            raise SoloFailed(f"the solo environment in {directory} has not ended within {STOP_WITHIN_SECS:.0f} s")
        time.sleep(POLL_SECS)
    EmbeddedPostgres(directory / DATABASE).stop()  # that of one that was killed; where sessions use it, it stays
    return pid


def with_database(settings: Settings, dsn: str) -> Settings:
    """The settings with the private database's address."""
    return settings.model_copy(
        update={"metadata_db": settings.metadata_db.model_copy(update={"url": SecretStr(dsn)})}
    )  # fmt: skip


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise SoloFailed(f"the solo environment is the process {pid} of another user, who has to end it") from None


def _directory(amp_dir: str | Path) -> Path:
    return Path(amp_dir).expanduser().absolute()


def _open(directory: Path, session: SoloSession | None) -> Client:
    """A client that lets go of all that it holds in ``directory`` when it is closed, or does not come to be."""
    postgres = EmbeddedPostgres(directory / DATABASE)

    def let_go() -> None:
        try:
            postgres.stop()  # unless others use it, of whom the environment is one
        finally:
            if session is not None:
                session.leave()

    try:
        settings = load_settings(None, os.environ, solo_dir=directory)
        if settings.metadata_db.url is None:
            settings = with_database(settings, _start(postgres, directory))
        return Client(settings, on_close=let_go, check=None if session is None else session.check)
    except BaseException:
        let_go()
        raise


def _start(postgres: EmbeddedPostgres, directory: Path) -> str:
    if not postgres.data_dir.is_dir():
        raise NotFound(
            f"there is no solo environment in {directory}; `ampd solo` or `ampd backfill` makes one, or "
            f"amp.local({str(directory)!r})"
        )
    return postgres.start()


def _live(directory: Path) -> bool:
    """True if this environment runs and its worker beats; a dead worker looks alive for five seconds more."""
    settings = _running_settings(directory) if runs_in(directory) else None
    if settings is None:
        return False
    try:
        with Client(settings) as client:
            return any(worker.alive for worker in client.workers())
    except AmpdError:
        return False


def _running_settings(directory: Path) -> Settings | None:
    """The settings of a solo environment whose database runs; None if it does not."""
    settings = load_settings(None, os.environ, solo_dir=directory)
    if settings.metadata_db.url is not None:
        return settings
    dsn = EmbeddedPostgres.running_dsn(directory / DATABASE)
    return None if dsn is None else with_database(settings, dsn)
