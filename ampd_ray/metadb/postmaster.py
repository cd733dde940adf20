"""The server process of a data directory, as its ``postmaster.pid`` describes it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg

from ampd_ray.errors import ConfigError

PORT: Final = 5432  # names the socket; nothing listens on TCP


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
        return f"postgresql://postgres@/postgres?host={quote(self.socket_dir, safe='')}&port={PORT}"

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


def disown_stale(data_dir: Path) -> None:
    """Make a stale ``postmaster.pid`` harmless where its number lives on as another process.

    Postgres would refuse to start for as long as that process lives. The parent of ``pg_ctl``, us, is the one
    process it disregards. The rest of the file stays: by the shared memory key in it Postgres sees whether any
    process of the old server is left.
    """
    lines = _pid_lines(data_dir)
    if lines and lines[0].isdigit() and Postmaster.read(data_dir) is None:
        (data_dir / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
