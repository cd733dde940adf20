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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from ampd_ray.errors import ConfigError, DatabaseUnavailable
from ampd_ray.metadb.binaries import find_binaries
from ampd_ray.metadb.server_user import ServerUser

_START_SECS = 60.0
_LOCK_SECS = 120.0
_POLL_SECS = 0.05
_PORT = 5432
_SOCKET_PATH_BYTES = 103  # the shortest limit among the systems we run on
# The old server's processes go a moment after it: Postgres says so, and trying again is all there is to do.
_STILL_GOING = ("is still in use", "already exists")


class EmbeddedPostgres:
    """The server of one data directory, e.g. ``<amp-dir>/metadb``; made by the first ``start``."""

    def __init__(self, data_dir: Path, *, binaries: Path | None = None) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._binaries = binaries
        self._use: int | None = None

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
            if self._use is None:
                if not (self.data_dir / "PG_VERSION").exists():
                    self._initialise()
                self._own()
                self._use = os.open(self.data_dir / "PG_VERSION", os.O_RDONLY)
                fcntl.flock(self._use, fcntl.LOCK_SH)
            postmaster = self._healthy() or self._launch()
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
                shutil.rmtree(postmaster.socket_dir, ignore_errors=True)
                return
        raise DatabaseUnavailable(f"the Postgres in {self.data_dir} (process {postmaster.pid}) does not stop")

    def _last_user(self) -> bool:
        if self._use is not None:
            os.close(self._use)
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
        path = self.data_dir.with_name(f"{self.data_dir.name}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot write in {path.parent}: {error.strerror}", path=str(path.parent)) from error
        try:
            if not _wait(lambda: _try_lock(lock), _LOCK_SECS):
                raise DatabaseUnavailable(f"another process has been starting the Postgres in {self.data_dir} too long")
            yield
        finally:
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
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self._socket_dir(user),
            "unix_socket_permissions": "0700",
            "port": _PORT,
            "timezone": "UTC",
        }
        log = self.data_dir / "postgres.log"
        options = shlex.join(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
        command: list[str | Path] = [binaries / "pg_ctl", "start", "-w", "-t", f"{_START_SECS:.0f}", "-s"]
        command += ["-D", self.data_dir, "-l", log, "-o", options]
        deadline = time.monotonic() + _START_SECS
        while True:
            _disown_stale(self.data_dir)
            said = log.stat().st_size if log.exists() else 0
            result = user.run(command, timeout=2 * _START_SECS)
            postmaster = Postmaster.read(self.data_dir)
            if result.returncode == 0 and postmaster:
                return postmaster
            complaint = log.read_text(errors="replace")[said:] if log.exists() else result.stderr
            if time.monotonic() > deadline or not any(reason in complaint for reason in _STILL_GOING):
                raise DatabaseUnavailable(f"Postgres does not start in {self.data_dir}: {complaint.strip()[-500:]}")
            time.sleep(4 * _POLL_SECS)

    def _socket_dir(self, user: ServerUser) -> Path:
        """A short directory of this data directory's own, open to the server's user (and root) only."""
        name = f"ampd-{hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]}"
        path = Path(tempfile.gettempdir()).resolve() / name
        if len(os.fsencode(path / f".s.PGSQL.{_PORT}")) > _SOCKET_PATH_BYTES:
            path = Path("/tmp") / name  # noqa: S108 - checked below to be ours
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            os.chown(path, user.uid, user.gid)
        status = path.lstat()
        if path.is_symlink() or status.st_uid != user.uid or status.st_mode & 0o077:
            raise ConfigError(f"{path} should be a directory of user {user.name!r} alone; remove it", path=str(path))
        return path


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A live server, as its ``postmaster.pid`` describes it."""

    pid: int
    socket_dir: str
    ready: bool

    @classmethod
    def read(cls, data_dir: Path) -> Postmaster | None:
        """The server that runs on ``data_dir``; None without one, also where the file is a dead one's."""
        lines = _pid_lines(data_dir)
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        if not pid or not _is_postmaster(pid, data_dir):
            return None
        lines += [""] * (8 - len(lines))
        return cls(pid, lines[4], lines[7] in {"ready", "standby"})

    @property
    def dsn(self) -> str:
        """The URL of the database ``postgres``, through the socket."""
        return f"postgresql://postgres@/postgres?host={quote(self.socket_dir, safe='')}&port={_PORT}"

    def answers(self) -> bool:
        """True if a session can be opened."""
        try:
            psycopg.connect(self.dsn, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _pid_lines(data_dir: Path) -> list[str]:
    try:
        return [line.strip() for line in (data_dir / "postmaster.pid").read_text().splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise ConfigError(f"{data_dir} belongs to another user", path=str(data_dir)) from error


def _is_postmaster(pid: int, data_dir: Path) -> bool:
    """True if ``pid`` is the server of ``data_dir``: a number may live on as a zombie or as somebody else's."""
    if Path("/proc/self/cmdline").exists():
        try:
            return os.fsencode(data_dir) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _disown_stale(data_dir: Path) -> None:
    """Make a stale ``postmaster.pid`` harmless where its number lives on as another process.

    Postgres would refuse to start for as long as that process lives. The parent of ``pg_ctl``, us, is the one
    process it disregards. The rest of the file stays: by the shared memory key in it Postgres sees whether any
    process of the old server is left.
    """
    lines = _pid_lines(data_dir)
    if lines and lines[0].isdigit() and Postmaster.read(data_dir) is None:
        (data_dir / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")


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
