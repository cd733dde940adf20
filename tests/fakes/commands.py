"""``ampd`` as a command: how to call it, and with which environment."""

import os
import subprocess
import sys
from pathlib import Path

AMPD = [sys.executable, "-m", "ampd_ray"]
COMMAND_SECS = 120.0


def clean_env(**more: str) -> dict[str, str]:
    """The environment without what would configure an ``ampd`` of the developer's."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("AMP_", "RAY_ADDRESS"))} | more


def ampd(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*AMPD, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECS,
        check=False,
        cwd=cwd,
        env=clean_env(**env),
    )
