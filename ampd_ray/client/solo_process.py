"""``ampd solo`` as a process that outlives the session that starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from ampd_ray.errors import ConfigError, NodeInUse, SoloFailed
from ampd_ray.log import rotate

LOG_NAME = "solo.log"


class SoloProcess:
    """An environment that ends by itself once no session uses it and no job runs in it."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._log = directory / LOG_NAME
        try:
            rotate(self._log)
            log = self._log.open("ab")
        except OSError as error:
            raise ConfigError(f"a solo environment cannot use {directory}: {error.strerror}") from error
        with log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ampd_ray", "solo", "--amp-dir", str(directory), "--until-unused"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C and a kernel's restart are not for it
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        # It may outlive this session and end before this process: somebody has to wait for it.
        threading.Thread(target=self._process.wait, name="ampd-ray-solo", daemon=True).start()

    @property
    def ended(self) -> bool:
        """True once it has ended."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raise ``SoloFailed`` if it has ended."""
        code = self._process.poll()
        if code == 0:
            raise SoloFailed(f"the solo environment in {self._directory} was told to end; its jobs resume in the next")
        if code is not None:
            raise SoloFailed(
                f"the solo environment ended with exit code {code}: {self._reason()} (all of it: {self._log})"
            )

    def was_second(self) -> bool:
        """True if it ended because another one runs in the directory."""
        return self._process.poll() == NodeInUse.exit_code

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def _reason(self) -> str:
        """Its own error line, else the last thing it said."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return [*(lines or ["it said nothing"])[-1:], *errors][-1][-500:]
