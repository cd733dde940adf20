"""Files in a directory: written once, complete or not there at all (``spec/data.md`` 5.1, ``spec/commit.md`` 4).

All calls block; coroutines use ``asyncio.to_thread``. Paths are relative to the store, with ``/``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Protocol

from ampd_ray.config import local_path
from ampd_ray.errors import ConfigError, ObjectExists, StoreError
from ampd_ray.log import redact
from ampd_ray.store.disk import Listed, ObjectMeta, describe, errors, list_files, sync_directory, write_durably
from ampd_ray.store.layout import STAGING, staging_path

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["Listed", "LocalStore", "ObjectMeta", "Store", "open_store"]


class Store(Protocol):
    """A data, manifest or provider directory. Calls raise ``StoreError``, ``StoreFull`` or what they name."""

    def url_of(self, path: str) -> str:
        """The object's URL, as Amp registers it; for a directory, without a trailing slash."""

    def path_of(self, url: str) -> str | None:
        """The path of the object that ``url_of`` gives this URL; None if it is not in this store."""

    def read(self, path: str) -> bytes:
        """The whole object; ``ObjectMissing`` if there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Put a small object in place at once, whatever was there."""

    def exists(self, path: str) -> bool:
        """True if the object is there."""

    def head(self, path: str) -> ObjectMeta:
        """Size, tag and checksum of what is there now, read back; ``ObjectMissing`` if it is not."""

    def open(self, path: str) -> BinaryIO:
        """The object for reading, from any place in it; ``ObjectMissing`` if there is none. The caller closes it."""

    def arrow(self) -> FileSystem:
        """The store as a file system of Arrow, for reading; the store's own relative paths open in it."""

    def objects(self, directory: str) -> Iterator[Listed]:
        """The objects directly in a directory, in no order, as they are found; none if it is not there."""

    def delete(self, path: str) -> None:
        """Remove an object; one that is gone is as good."""

    def stage(self, location_id: int, epoch: int, name: str) -> Path:
        """A local path outside the revisions to write an unfinished file to; ``name`` must be new."""

    def publish(self, staged: Path, path: str) -> ObjectMeta:
        """Make a finished file appear under its name, durably, and remove the staged one; what is there, read back.

        If the same bytes are there already, that is success. ``ObjectExists`` if others are: nothing is changed then.
        """

    def clear_staging(self, location_id: int, below_epoch: int) -> None:
        """Remove the unfinished files of epochs that cannot commit any more."""

    def staged_epochs(self, location_id: int) -> list[int]:
        """The epochs that have a place for unfinished files of a location, ascending."""

    def probe(self) -> None:
        """Write, read and delete a small file outside the revisions; raises if that does not work."""

    def free_bytes(self) -> int | None:
        """Room that is left for this user, None where there is no such figure."""


def open_store(location: str) -> Store:
    """The store at a path or URL of the settings. Raises ``ConfigError`` for a kind that we do not have."""
    path = local_path(location)
    if path is None:
        raise ConfigError(f"{redact(location)}: object stores are not supported yet; use a local directory")
    return LocalStore(path)


class LocalStore:
    """A :class:`Store` in a directory that exists; the file system must know hard links."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def __repr__(self) -> str:
        return f"LocalStore({str(self._root)!r})"

    def url_of(self, path: str) -> str:
        """See :class:`Store`."""
        return self._path(path).as_uri()

    def path_of(self, url: str) -> str | None:
        """See :class:`Store`."""
        path = local_path(url)
        if path is None or not path.is_relative_to(self._root) or ".." in path.parts or path == self._root:
            return None
        return path.relative_to(self._root).as_posix()

    def read(self, path: str) -> bytes:
        """See :class:`Store`."""
        with errors("read", self._path(path)):
            return self._path(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """See :class:`Store`."""
        target, temporary = self._path(path), self._root / STAGING / f"write-{secrets.token_hex(8)}"
        with errors("write", target):
            self._make_directory(temporary.parent)
            self._make_directory(target.parent)
            try:
                write_durably(temporary, data)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(target.parent)

    def exists(self, path: str) -> bool:
        """See :class:`Store`."""
        with errors("look for", self._path(path)):
            return self._path(path).is_file()

    def head(self, path: str) -> ObjectMeta:
        """See :class:`Store`."""
        with errors("read", self._path(path)):
            return describe(self._path(path))

    def open(self, path: str) -> BinaryIO:
        """See :class:`Store`."""
        with errors("read", self._path(path)):
            return self._path(path).open("rb")

    def arrow(self) -> FileSystem:
        """See :class:`Store`."""
        from pyarrow.fs import LocalFileSystem, SubTreeFileSystem  # noqa: PLC0415 - Arrow takes long to import

        return SubTreeFileSystem(str(self._root), LocalFileSystem())

    def objects(self, directory: str) -> Iterator[Listed]:
        """See :class:`Store`."""
        with errors("list", self._path(directory)):
            yield from list_files(self._path(directory))

    def delete(self, path: str) -> None:
        """See :class:`Store`."""
        target = self._path(path)
        with errors("delete", target), contextlib.suppress(FileNotFoundError):
            target.unlink()
            sync_directory(target.parent)

    def stage(self, location_id: int, epoch: int, name: str) -> Path:
        """See :class:`Store`."""
        staged = self._path(f"{staging_path(location_id, epoch)}/{name}")
        with errors("write", staged):
            self._make_directory(staged.parent)
        return staged

    def publish(self, staged: Path, path: str) -> ObjectMeta:
        """See :class:`Store`."""
        target = self._path(path)
        with errors("write", target):
            meta = describe(staged, sync=True)
            self._make_directory(target.parent)
            try:
                os.link(staged, target)  # unlike a rename, never replaces
            except FileExistsError:
                meta = self._same_object(target, meta)
            sync_directory(target.parent)
            staged.unlink()
        return meta

    def clear_staging(self, location_id: int, below_epoch: int) -> None:
        """See :class:`Store`."""
        for epoch in self.staged_epochs(location_id):
            directory = self._path(staging_path(location_id, epoch))
            with errors("clear", directory), contextlib.suppress(FileNotFoundError):
                if epoch < below_epoch:
                    shutil.rmtree(directory)

    def staged_epochs(self, location_id: int) -> list[int]:
        """See :class:`Store`."""
        directory = self._path(staging_path(location_id))
        with errors("list", directory), contextlib.suppress(FileNotFoundError):
            return sorted(int(epoch.name) for epoch in directory.iterdir() if epoch.name.isdecimal())
        return []

    def probe(self) -> None:
        """See :class:`Store`."""
        path, data = f"{STAGING}/probe-{secrets.token_hex(8)}", secrets.token_bytes(64)
        self.write(path, data)
        if self.read(path) != data:
            raise StoreError(f"{self._root} does not give back what was written to it; check its file system")
        self.delete(path)

    def free_bytes(self) -> int | None:
        """See :class:`Store`."""
        with errors("measure", self._root):
            return shutil.disk_usage(self._root).free

    def _path(self, path: str) -> Path:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise StoreError(f"{path!r} is not a path inside {self._root}")
        return self._root / pure

    def _make_directory(self, directory: Path) -> None:
        """Create ``directory`` below the root, each new level durably; the root itself is never created."""
        lacking = [each for each in (directory, *directory.parents) if each != self._root and not each.exists()]
        for each in reversed(lacking):
            with contextlib.suppress(FileExistsError):
                each.mkdir()
            sync_directory(each.parent)

    def _same_object(self, target: Path, ours: ObjectMeta) -> ObjectMeta:
        """What ``target`` holds, if it is what we meant to put there."""
        found = describe(target)
        if (found.size, found.sha256) != (ours.size, ours.sha256):
            raise ObjectExists(
                f"{target} is there already with other content ({found.size} bytes, ours has {ours.size})",
                path=str(target),
            )
        return found
