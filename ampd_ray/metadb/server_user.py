"""Which user runs a private Postgres: ourselves, or a system user where we are root, since Postgres refuses root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ampd_ray.errors import ConfigError, DatabaseUnavailable

_NAMES = ("postgres", "ampd_ray")
# What lets the server pass directories closed to it, least power first. Root's home and most temporary
# directories are closed to others, so without one of these a newcomer who works as root could not use them.
_CAPABILITIES = ("", "dac_read_search", "dac_override")


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user of the server process; ``capability`` is what it needs to reach its directories, mostly nothing."""

    name: str
    uid: int
    gid: int
    capability: str = ""

    @classmethod
    def for_data(cls, data_dir: Path) -> ServerUser:
        """Ourselves; or, where we are root, the owner of ``data_dir``, else ``postgres``, else a new system user."""
        if os.geteuid() != 0:
            return cls._of(_entry(os.geteuid()))
        owner = data_dir.stat().st_uid if data_dir.exists() else 0
        return cls._of(_entry(owner) if owner else _system_user())

    @classmethod
    def _of(cls, entry: pwd.struct_passwd) -> ServerUser:
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @property
    def is_us(self) -> bool:
        """True if no switch of user is needed."""
        return self.uid == os.geteuid()

    def run(self, argv: Sequence[str | Path], timeout: float) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` as this user with a clean environment, for at most ``timeout`` seconds."""
        command = [str(argument) for argument in argv]
        who: dict[str, Any] = {}
        if self.capability:
            grant = [f"--inh-caps=+{self.capability}", f"--ambient-caps=+{self.capability}"]
            command = [
                "setpriv",
                f"--reuid={self.uid}",
                f"--regid={self.gid}",
                "--clear-groups",
                *grant,
                "--",
                *command,
            ]
        elif not self.is_us:
            who = {"user": self.uid, "group": self.gid, "extra_groups": []}
        try:
            return subprocess.run(
                command,
                env={"PATH": os.defpath, "HOME": "/", "LC_ALL": "C", "TZ": "UTC"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                **who,
            )
        except subprocess.TimeoutExpired as error:
            raise DatabaseUnavailable(f"{argv[0]} did not end within {timeout:g} s") from error

    def reaching(self, *paths: Path) -> ServerUser:
        """This user with the least capability that reaches all ``paths``; ConfigError names the closed directory."""
        for capability in _CAPABILITIES:
            if capability and (self.is_us or shutil.which("setpriv") is None):
                break
            user = replace(self, capability=capability)
            if all(user.enters(path) for path in paths):
                return user
        closed = next(part for path in paths for part in [*reversed(path.parents), path] if not self.enters(part))
        raise ConfigError(
            f"{closed} is closed to user {self.name!r}, who runs Postgres because Postgres refuses root. "
            f"Allow it with `chmod o+x {closed}`, choose a directory elsewhere, or do not run as root.",
            path=str(closed),
        )

    def enters(self, path: Path) -> bool:
        """True if this user may look into the directory ``path`` and all above it."""
        return self.run(["/bin/sh", "-c", 'test -x "$1"', "sh", path], timeout=10).returncode == 0


def _entry(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError as error:
        raise ConfigError(f"Postgres needs a user with a name, and uid {uid} is not in /etc/passwd: add it") from error


def _system_user() -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in _NAMES:
        if name in known:
            return known[name]
    useradd = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _NAMES[-1]]
    try:
        subprocess.run(useradd, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            "Postgres refuses to run as root, and no other user could be created for it. "
            f"Create one with `useradd --system {_NAMES[-1]}`, or do not run as root."
        ) from error
    return pwd.getpwnam(_NAMES[-1])
