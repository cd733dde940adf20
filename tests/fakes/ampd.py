"""``ampd`` as a user runs it: a process with its exit code, what it said, and how long it took."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

AMPD = (sys.executable, "-m", "ampd_ray")
SECONDS = 15.0  # "within seconds", on a machine that is busy with other tests
CANARY = "canary0s3cr3t"  # stands wherever a secret may stand, and must come out nowhere


@dataclass(frozen=True)
class Said:
    """What a command that ended has left."""

    code: int
    out: str
    err: str
    secs: float

    @property
    def error(self) -> str:
        """Its error line; there must be one and only one, within seconds, and no traceback and no secret anywhere."""
        return self.error_within(SECONDS)

    def error_within(self, secs: float) -> str:
        """The same for what may take longer."""
        text = self.out + self.err
        assert "Traceback" not in text, text
        assert CANARY not in text, text
        assert self.secs < secs, f"it took {self.secs:.1f} s:\n{text}"
        lines = [line for line in self.err.splitlines() if re.match(r"error: |Error: ", line)]
        assert len(lines) == 1, text
        return self.err[self.err.index(lines[0]) :]  # a report of several problems goes on below


def clean_env(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what would configure an ``ampd`` or a Ray of the developer's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AMP_", "RAY_"))}
    return kept | dict(more or {})


def ampd(*arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Said:
    """Run a command to its end; one that hangs fails the test."""
    return run([*AMPD, *map(str, arguments)], env=env, cwd=cwd)


def run(command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Said:
    """The same for any command."""
    started = time.monotonic()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env=clean_env(env),
        cwd=cwd,
    )
    return Said(done.returncode, done.stdout, done.stderr, time.monotonic() - started)
