"""A private Postgres without installing one: for solo use and for tests (``spec/metadata-db.md`` 9.3).

One server per data directory, reached through a Unix socket only. A server outlives an owner that was killed;
the next ``start`` adopts it and the next ``stop`` ends it. Who uses the server is a kernel lock on the data
directory, so that a killed owner counts no more and ``stop`` leaves the server to those who still need it.
Everything here blocks: call it from a thread where there is an event loop.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ampd_ray.errors import ConfigError, DatabaseUnavailable
from ampd_ray.log import rotate
from ampd_ray.metadb.binaries import find_binaries
from ampd_ray.metadb.postmaster import PORT, Postmaster, disown_stale
from ampd_ray.metadb.server_user import ServerUser

_START_SECS = 60.0
_LOCK_SECS = 120.0
_POLL_SECS = 0.05
_SOCKET_PATH_BYTES = 103  # the shortest limit among the systems we run on
# The old server's processes go a moment after it: Postgres says so, and trying again is all there is to do.
_STILL_GOING = ("is still in use", "already exists")


class EmbeddedPostgres:
    """The server of one data directory, e.g. ``<amp-dir>/metadb``; made by the first ``start``."""

    def __init__(self, data_dir: Path, *, binaries: Path | None = None) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._binaries = binaries
        self._use: weakref.finalize[..., EmbeddedPostgres] | None = None

    @classmethod
    def running_dsn(cls, data_dir: Path) -> str | None:
        """The URL of the server that runs on ``data_dir``, None if none does; starts nothing."""
        postmaster = Postmaster.read(data_dir.expanduser().resolve())
        return postmaster.dsn if postmaster and postmaster.ready else None

    @property
    def dsn(self) -> str:
        """The URL of the running server; DatabaseUnavailable if it does not run."""
        if (dsn := self.running_dsn(self.data_dir)) is None:
            raise DatabaseUnavailable(f"the embedded Postgres in {self.data_dir} is not running")
        return dsn

    def running(self) -> bool:
        """True while a server, ours or an orphan, runs on the data directory."""
        return Postmaster.read(self.data_dir) is not None

    def start(self) -> str:
        """Start the server, or join the one that runs; returns its URL once it answers."""
        with self._alone():
            if not (self.data_dir / "PG_VERSION").exists():
                self._initialise()
            self._own()
            postmaster = self._healthy() or self._launch()
            if self._use is None:
                lock = os.open(self.data_dir / "PG_VERSION", os.O_RDONLY)
                self._use = weakref.finalize(self, os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_SH)
            return postmaster.dsn

    def stop(self, patience: float = 10.0) -> None:
        """Stop the server unless somebody else uses it: smart, fast, immediate, ``patience`` seconds for each."""
        if not self.data_dir.exists():
            return
        with self._alone():
            if self._last_user():
                self._stop(patience)

    def _stop(self, patience: float) -> None:
        postmaster = Postmaster.read(self.data_dir)
        if postmaster is None:
            return
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            with suppress(ProcessLookupError):
                os.kill(postmaster.pid, number)
            if _wait(lambda: not self.running(), patience):
                _remove_if_empty(Path(postmaster.socket_dir))
                return
        raise DatabaseUnavailable(f"the Postgres in {self.data_dir} (process {postmaster.pid}) does not stop")

    def _last_user(self) -> bool:
        if self._use is not None and (alive := self._use.peek()) is not None:
            fcntl.flock(alive[2][0], fcntl.LOCK_UN)  # also for the processes that were forked off, which have the file
            self._use()
            self._use = None
        with suppress(FileNotFoundError), (self.data_dir / "PG_VERSION").open() as version:
            try:
                fcntl.flock(version, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Starting and stopping happen one at a time per data directory, across processes."""
        lock: int | None = None
        path = self.data_dir.with_name(f"{self.data_dir.name}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            if not _wait(lambda: _try_lock(lock), _LOCK_SECS):
                raise DatabaseUnavailable(f"another process has been starting the Postgres in {self.data_dir} too long")
            yield
        except OSError as error:
            where = str(error.filename or self.data_dir)
            raise ConfigError(f"the embedded Postgres cannot use {where}: {error.strerror}", path=where) from error
        finally:
            if lock is not None:
                os.close(lock)

    def _initialise(self) -> None:
        """Make the data directory beside its place, so that a killed initdb leaves no half of one."""
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise ConfigError(f"{self.data_dir} is not empty and holds no Postgres database", path=str(self.data_dir))
        new = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        user = ServerUser.for_data(new)
        os.chown(new, user.uid, user.gid)
        binaries = self._find_binaries(user)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        result = user.reaching(new, binaries).run([binaries / "initdb", "-D", new, *options], timeout=_LOCK_SECS)
        if result.returncode != 0:
            shutil.rmtree(new, ignore_errors=True)
            raise DatabaseUnavailable(f"initdb failed in {self.data_dir}: {result.stderr.strip()[-500:]}")
        new.rename(self.data_dir)

    def _own(self) -> None:
        """Give the directory to the user who runs the server, e.g. after root copied it here."""
        user = ServerUser.for_data(self.data_dir)
        owner = self.data_dir.stat().st_uid
        if owner == user.uid:
            return
        if os.geteuid() != 0:
            raise ConfigError(f"{self.data_dir} belongs to another user (uid {owner})", path=str(self.data_dir))
        for path in [self.data_dir, *self.data_dir.rglob("*")]:
            os.chown(path, user.uid, user.gid, follow_symlinks=False)

    def _find_binaries(self, user: ServerUser) -> Path:
        return self._binaries or find_binaries(self.data_dir, user)

    def _healthy(self) -> Postmaster | None:
        """The server that runs here already, once it answers; one that never will is stopped."""
        postmaster = Postmaster.read(self.data_dir)
        if postmaster is None:
            return None
        if _wait(lambda: (now := Postmaster.read(self.data_dir)) is None or now.ready, _START_SECS):
            postmaster = Postmaster.read(self.data_dir)
            if postmaster is None or postmaster.answers():
                return postmaster
        self._stop(patience=10.0)
        return None

    def _launch(self) -> Postmaster:
        user = ServerUser.for_data(self.data_dir)
        binaries = self._find_binaries(user)
        user = user.reaching(self.data_dir, binaries)
        socket_dir = self._socket_dir(user)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": socket_dir,
            "unix_socket_permissions": "0700",
            "port": PORT,
            "timezone": "UTC",
        }
        log = self.data_dir / "postgres.log"
        rotate(log)
        options = shlex.join(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
        command: list[str | Path] = [binaries / "pg_ctl", "start", "-w", "-t", f"{_START_SECS:.0f}", "-s"]
        command += ["-D", self.data_dir, "-l", log, "-o", options]
        deadline = time.monotonic() + _START_SECS
        while True:
            disown_stale(self.data_dir)
            said = log.stat().st_size if log.exists() else 0
            result = user.run(command, timeout=2 * _START_SECS)
            postmaster = Postmaster.read(self.data_dir)
            if result.returncode == 0 and postmaster:
                return postmaster
            complaint = log.read_text(errors="replace")[said:] if log.exists() else result.stderr
            if time.monotonic() > deadline or not any(reason in complaint for reason in _STILL_GOING):
                _remove_if_empty(socket_dir)
                raise DatabaseUnavailable(f"Postgres does not start in {self.data_dir}: {complaint.strip()[-500:]}")
            time.sleep(4 * _POLL_SECS)

    def _socket_dir(self, user: ServerUser) -> Path:
        """A short directory of this data directory's own, open to the server's user (and root) only."""
        name = f"ampd-{hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]}"
        path = Path(tempfile.gettempdir()).resolve() / name
        if len(os.fsencode(path / f".s.PGSQL.{PORT}")) > _SOCKET_PATH_BYTES:
            path = Path("/tmp") / name  # noqa: S108 - checked below to be ours
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            os.chown(path, user.uid, user.gid)
        status = path.lstat()
        if path.is_symlink() or status.st_uid != user.uid or status.st_mode & 0o077:
            raise ConfigError(f"{path} should be a directory of user {user.name!r} alone; remove it", path=str(path))
        for left in path.glob(f".s.PGSQL.{PORT}*"):
            left.unlink()  # of a killed server; its number may live on as another process, which Postgres fears
        return path


def _remove_if_empty(socket_dir: Path) -> None:
    with suppress(OSError):
        socket_dir.rmdir()


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECS)
    return True
