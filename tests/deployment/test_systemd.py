"""``deploy/ampd@.service`` is what systemd takes, and it lets the worker do no more than it must."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ampd_ray.config import load_settings
from tests.fakes.command_line import parse
from tests.fakes.places import REPO
from tests.install_debian import CACHE, SYSTEMD, InstallError, install

UNIT = REPO / "deploy" / "ampd@.service"
MOST_EXPOSED = 2.0  # of ten; systemd calls this OK


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        program = install(SYSTEMD, CACHE / SYSTEMD.name)
    except InstallError as error:
        pytest.skip(f"no systemd-analyze here: {error}")
    command = [str(program.file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=program.env)


def installed(tmp_path: Path, text: str) -> Path:
    """The unit where its program is there."""
    (tmp_path / "ampd").write_text("#!/bin/sh\n")
    (tmp_path / "ampd").chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={tmp_path / 'ampd'}", text, flags=re.MULTILINE))
    return unit


def test_systemd_takes_it(tmp_path: Path) -> None:
    done = analyze("verify", str(installed(tmp_path, UNIT.read_text())))
    assert (done.returncode, done.stderr) == (0, "")


def test_what_systemd_does_not_know_is_found(tmp_path: Path) -> None:
    unit = installed(tmp_path, UNIT.read_text().replace("KillMode=mixed", "KillMode=mixt\nProtectHomes=yes"))
    said = analyze("verify", str(unit)).stderr
    assert "mixt" in said
    assert "ProtectHomes" in said


def test_it_is_confined(tmp_path: Path) -> None:
    unit = installed(tmp_path, UNIT.read_text())
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:.0f}", "--no-pager", str(unit))
    assert done.returncode == 0, done.stdout


def test_it_outlives_the_drain_and_starts_a_command_that_there_is(tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    ampd, *arguments = shlex.split(service["ExecStart"].replace("%i", "worker-1"))
    assert Path(ampd).name == "ampd"
    parse(shlex.join(arguments))
    (tmp_path / "amp.toml").touch()
    settings = load_settings(tmp_path / "amp.toml", {"AMP_CONFIG_METADATA_DB_URL": "postgresql://amp@localhost/amp"})
    assert float(service["TimeoutStopSec"]) > settings.ampd_ray.drain_timeout_secs
