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
    """An environment that ends by itself once no session uses it and no job runs in it.

    A thread starts the process, so that an interrupt cannot come between, and waits for it: it may outlive its session
    and end before this process.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._log = directory / LOG_NAME
        self._log_start = 0
        self._thread = threading.Thread(target=self._run, name="ampd-ray-solo", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._code: int | None = None

    def start(self) -> None:
        """Start it; ``ConfigError`` if its log cannot be written."""
        try:
            rotate(self._log)
            with self._log.open("ab") as log:
                self._log_start = log.tell()
        except OSError as error:
            raise ConfigError(f"a solo environment cannot use {self._directory}: {error.strerror}") from error
        self._thread.start()

    @property
    def ended(self) -> bool:
        """True once it has ended, and before it is started."""
        return self._code is not None or self._thread.ident is None

    def check(self) -> None:
        """Raise ``SoloFailed`` if it has ended."""
        if self._code == 0:
            raise SoloFailed(f"the solo environment in {self._directory} was told to end; its jobs resume in the next")
        if self._code is not None:
            raise SoloFailed(
                f"the solo environment ended with exit code {self._code}: {self._reason()} (all of it: {self._log})"
            )

    def was_second(self) -> bool:
        """True if it ended because another one runs in the directory."""
        return self._code == NodeInUse.exit_code

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
        self._thread.join()

    def _run(self) -> None:
        with self._log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "ampd_ray", "solo", "--amp-dir", str(self._directory), "--until-unused"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # a terminal's Ctrl-C and a kernel's restart are not for it
                    env=os.environ | {"PYTHONUNBUFFERED": "1"},
                )
            except OSError as error:
                log.write(f"error: no process can be started: {error}\n".encode())
        self._code = 1 if self._process is None else self._process.wait()

    def _reason(self) -> str:
        """Its own error line, else the last thing it said."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return [*(lines or ["it said nothing"])[-1:], *errors][-1][-500:]
