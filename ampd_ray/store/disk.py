"""What the local store asks of the operating system, durably and with errors for people."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ampd_ray.errors import ObjectMissing, StoreError, StoreFull


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What the store holds: bytes, tag and version as Amp's readers see them, SHA-256 where it was computed."""

    size: int
    e_tag: str | None
    version: str | None
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """An object that a listing found: its bare name, bytes, and how long ago it was written."""

    name: str
    size: int
    age_secs: float


def list_files(directory: Path) -> Iterator[Listed]:
    """The files directly in ``directory``, in no order, as they are found; none if it is not there."""
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        return
    now = time.time()
    with entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # deleted since
                status = entry.stat()  # through links, which are what mounted secrets are
                if stat.S_ISREG(status.st_mode):
                    yield Listed(entry.name, status.st_size, now - status.st_mtime)


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a new file, onto the disk; ``mode`` as far as the umask allows it."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def describe(path: Path, *, sync: bool = False) -> ObjectMeta:
    """Read the file through; with ``sync``, after it has reached the disk."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").digest()
        status = os.fstat(file.fileno())
    # The tag that Amp's object store library gives to a local file: inode, microseconds, size.
    e_tag = f"{status.st_ino:x}-{status.st_mtime_ns // 1000:x}-{status.st_size:x}"
    return ObjectMeta(status.st_size, e_tag, None, sha256)


def sync_directory(directory: Path) -> None:
    """Have the names in ``directory`` reach the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def errors(verb: str, path: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours, which name the path and the way out."""
    try:
        yield
    except FileNotFoundError as error:
        if verb == "read":
            raise ObjectMissing(f"{path} does not exist", path=str(path)) from error
        raise StoreError(f"cannot {verb} {path}: the directory is missing; restore it", path=str(path)) from error
    except OSError as error:
        facts = {"path": str(path), "errno": error.errno}
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"cannot {verb} {path}: {error.strerror}; free some space or raise the quota"
            raise StoreFull(message, **facts) from error
        hint = "; check the directory's owner and permissions" if isinstance(error, PermissionError) else ""
        raise StoreError(f"cannot {verb} {path}: {error.strerror or error}{hint}", **facts) from error
