"""A disk so small that a test can fill it: a file system in memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

CHUNKS = (1 << 20, 1 << 12)  # bytes; the second fills what the first leaves


class TinyDisk:
    """The disk at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("wb", buffering=0) as file:
            for chunk in CHUNKS:
                with suppress(OSError):
                    while file.write(bytes(chunk)) == chunk:
                        pass

    def make_room(self) -> None:
        """Give the room back."""
        self._ballast.unlink()


@contextmanager
def tiny_disk(megabytes: int) -> Iterator[TinyDisk]:
    """Such a disk; where none can be mounted the test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    path = Path(tempfile.mkdtemp(prefix="ampd-disk-"))
    try:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(path)]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
        try:
            yield TinyDisk(path)
        finally:
            subprocess.run(["umount", str(path)], check=True)
    finally:
        path.rmdir()
