"""The anvil installer does nothing twice and says in a sentence what is wrong."""

import platform
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from tests import install_anvil
from tests.install_anvil import InstallError


def fake_binary(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'anvil Version: {version}'\n")
    path.chmod(0o755)
    return path


def test_what_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_binary(tmp_path / "anvil", install_anvil.VERSION)
    monkeypatch.setattr(install_anvil, "npm", lambda: pytest.fail("nothing to fetch"))
    assert install_anvil.install(tmp_path) == f"anvil Version: {install_anvil.VERSION}"


@pytest.mark.parametrize(
    ("version", "wanted"), [("1.7.1", True), ("1.7.1-nightly", True), ("1.7.10", False), ("1.6.0", False)]
)
def test_only_the_wanted_version_counts(tmp_path: Path, version: str, wanted: bool) -> None:
    binary = fake_binary(tmp_path / "anvil", version)
    assert (install_anvil.version_of(binary) is not None) is wanted


def test_a_missing_or_broken_binary_has_no_version(tmp_path: Path) -> None:
    assert install_anvil.version_of(tmp_path / "anvil") is None
    (tmp_path / "anvil").write_bytes(b"\0")
    assert install_anvil.version_of(tmp_path / "anvil") is None


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [("Linux", "x86_64", "linux-amd64"), ("Linux", "aarch64", "linux-arm64"), ("Darwin", "arm64", "darwin-arm64")],
)
def test_the_package_fits_the_machine(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, name: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert install_anvil.package_platform() == name


def test_a_machine_without_a_package_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Plan9")
    with pytest.raises(InstallError, match="no package for Plan9"):
        install_anvil.package_platform()


def test_without_the_systems_npm_the_environments_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert install_anvil.npm()[0] == sys.executable


def test_an_npm_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.exit('E404 no such package')"
    monkeypatch.setattr(install_anvil, "npm", lambda: [sys.executable, "-c", code])
    with pytest.raises(InstallError, match=r"could not fetch @foundry-rs/anvil-.*E404 no such package"):
        install_anvil.install(tmp_path)


def test_an_archive_without_anvil_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz"):
        pass
    with pytest.raises(InstallError, match="holds no package/bin/anvil"):
        install_anvil.unpack(archive, tmp_path / "anvil")
