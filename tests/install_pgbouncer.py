"""Fetch PgBouncer into ``.cache/pgbouncer`` as Debian packages it, without installing; the standard library only.

A ``pgbouncer`` on the PATH comes first. Else apt fetches the package and, where this machine lacks some of them, the
libraries that it depends on; nothing outside ``.cache`` changes. Nothing happens where it is there already.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "pgbouncer"
TARGET = Path(__file__).resolve().parents[1] / ".cache" / PACKAGE
APT_SECS = 120
PRIVATE = ("Debug::NoLocking=true", "APT::Sandbox::User=root")


class InstallError(Exception):
    """PgBouncer cannot be had here; the message says why and what to do."""


@dataclass(frozen=True)
class PgBouncer:
    """A program that runs: its file, the environment that it needs, and its version line."""

    program: Path
    env: dict[str, str]
    version: str


def main() -> int:
    """Install, or say in one line why not."""
    try:
        print(install(TARGET).version)
    except InstallError as error:
        print(f"pgbouncer is not installed: {error}", file=sys.stderr)
        return 1
    return 0


def install(target: Path) -> PgBouncer:
    """The PgBouncer of the PATH, or the one in ``target``, which is fetched if need be."""
    for program, libraries in ((shutil.which(PACKAGE), None), (target / PACKAGE, target)):
        if program is not None and (found := runs(Path(program), libraries)):
            return found
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise InstallError(f"{tool} is missing here: put a pgbouncer on the PATH")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        folder = Path(scratch)
        lists = package_lists(folder)
        fetch([PACKAGE], lists, folder)
        keep(folder, target)
        if runs(target / PACKAGE, target) is None:
            fetch(libraries_of(PACKAGE, lists), lists, folder)
            keep(folder, target)
    if (found := runs(target / PACKAGE, target)) is None:
        raise InstallError(f"{target / PACKAGE} does not run here; put another pgbouncer on the PATH")
    return found


def runs(program: Path, libraries: Path | None) -> PgBouncer | None:
    """The program, if it runs with these libraries."""
    env = {"PATH": os.defpath} | ({} if libraries is None else {"LD_LIBRARY_PATH": str(libraries)})
    try:
        said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True, env=env)
    except (OSError, subprocess.SubprocessError):
        return None
    return PgBouncer(program, env, said.stdout.partition("\n")[0])


def package_lists(folder: Path) -> list[str]:
    """The options for apt to know the package: none or, on a machine without package lists, those of ``folder``."""
    if run(["apt-cache", "show", PACKAGE], folder).returncode == 0:
        return []
    (folder / "lists" / "partial").mkdir(parents=True)
    private = (f"Dir::State::Lists={folder / 'lists'}", f"Dir::Cache={folder}", *PRIVATE)
    options = [word for option in private for word in ("-o", option)]
    run(["apt-get", "update", "-q", *options], folder)
    return options


def fetch(packages: Sequence[str], options: Sequence[str], folder: Path) -> None:
    """Download packages into ``folder``."""
    done = run(["apt-get", "download", "-q", *options, *packages], folder)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:] or "nothing"
        raise InstallError(f"apt could not fetch {', '.join(packages)}: check the network; apt said: {said}")


def libraries_of(package: str, options: Sequence[str]) -> list[str]:
    """The libraries that a package depends on, but for the C library, which is everywhere."""
    said = run(["apt-cache", "depends", *options, package], Path("/")).stdout
    return [name for name in re.findall(r"^ *\|?Depends: (lib\S+)$", said, re.MULTILINE) if name != "libc6"]


def keep(folder: Path, target: Path) -> None:
    """Unpack what was fetched, and copy program and libraries into ``target``, side by side."""
    for package in folder.glob("*.deb"):
        unpacked = folder / package.stem
        run(["dpkg-deb", "-x", str(package), str(unpacked)], folder)
        for file in [unpacked / "usr/sbin" / PACKAGE, *unpacked.rglob("*.so.*")]:
            if file.is_file():
                shutil.copy(file, unpacked / "copy")
                (unpacked / "copy").replace(target / file.name)  # another process may be using the old one


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, which says C what it says."""
    env = os.environ | {"LC_ALL": "C"}
    try:
        return subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=APT_SECS
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"{command[0]} did not end within {APT_SECS} s: check the network") from error


if __name__ == "__main__":
    sys.exit(main())
