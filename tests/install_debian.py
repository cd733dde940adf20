"""Fetch programs into ``.cache`` as Debian packages them, without installing; the standard library only.

One on the PATH comes first. Else apt fetches its package and, where this machine lacks some of them, the libraries that
it depends on; nothing outside ``.cache`` changes. Nothing happens where it is there already.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CACHE = Path(__file__).resolve().parents[1] / ".cache"
APT_SECS = 120
PRIVATE = ("Debug::NoLocking=true", "APT::Sandbox::User=root")


@dataclass(frozen=True)
class Package:
    """A package and the one program of it that tests use."""

    name: str
    file: PurePosixPath

    @property
    def program(self) -> str:
        """What one types."""
        return self.file.name


PGBOUNCER = Package("pgbouncer", PurePosixPath("usr/sbin/pgbouncer"))
SYSTEMD = Package("systemd", PurePosixPath("usr/bin/systemd-analyze"))


class InstallError(Exception):
    """A program cannot be had here; the message says why and what to do."""


@dataclass(frozen=True)
class Program:
    """A program that runs: its file, the environment that it needs, and its version line."""

    file: Path
    env: dict[str, str]
    version: str


def main() -> int:
    """Install all, or say in one line each why not."""
    failed = 0
    for package in (PGBOUNCER, SYSTEMD):
        try:
            print(install(package, CACHE / package.name).version)
        except InstallError as error:
            print(f"{package.program} is not installed: {error}", file=sys.stderr)
            failed = 1
    return failed


def install(package: Package, target: Path) -> Program:
    """The program of the PATH, or the one in ``target``, which is fetched if need be."""
    for program, libraries in ((shutil.which(package.program), None), (target / package.program, target)):
        if program is not None and (found := runs(Path(program), libraries)):
            return found
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise InstallError(f"{tool} is missing here: put a {package.program} on the PATH")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        folder = Path(scratch)
        lists = package_lists(package.name, folder)
        fetch([package.name], lists, folder)
        keep(folder, package, target)
        if runs(target / package.program, target) is None:
            fetch(libraries_of(package.name, lists), lists, folder)
            keep(folder, package, target)
    if (found := runs(target / package.program, target)) is None:
        raise InstallError(f"{target / package.program} does not run here; put another one on the PATH")
    return found


def runs(program: Path, libraries: Path | None) -> Program | None:
    """The program, if it runs with these libraries."""
    env = {"PATH": os.defpath} | ({} if libraries is None else {"LD_LIBRARY_PATH": str(libraries)})
    try:
        said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True, env=env)
    except (OSError, subprocess.SubprocessError):
        return None
    return Program(program, env, said.stdout.partition("\n")[0])


def package_lists(name: str, folder: Path) -> list[str]:
    """The options for apt to know the package: none or, on a machine without package lists, those of ``folder``."""
    if run(["apt-cache", "show", name], folder).returncode == 0:
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


def libraries_of(name: str, options: Sequence[str]) -> list[str]:
    """The libraries that a package depends on, but for the C library, which is everywhere."""
    said = run(["apt-cache", "depends", *options, name], Path("/")).stdout
    return [library for library in re.findall(r"^ *\|?Depends: (lib\S+)$", said, re.MULTILINE) if library != "libc6"]


def keep(folder: Path, package: Package, target: Path) -> None:
    """Unpack what was fetched, and copy program and libraries into ``target``, side by side."""
    for fetched in folder.glob("*.deb"):
        unpacked = folder / fetched.stem
        run(["dpkg-deb", "-x", str(fetched), str(unpacked)], folder)
        for file in [unpacked / package.file, *unpacked.rglob("lib*.so*")]:
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
