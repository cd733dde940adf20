"""A store in a local directory: written once, complete or not there at all (``spec/data.md`` 5.1)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ampd_ray.config import local_path
from ampd_ray.errors import ObjectExists, StoreError
from ampd_ray.store.disk import Listed, ObjectMeta, describe, errors, list_files, sync_directory, write_durably
from ampd_ray.store.layout import STAGING, inside, staging_path

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


class LocalStore:
    """A :class:`Store` in a directory that exists; the file system must know hard links."""

    def __init__(self, root: Path, *, file_mode: int = 0o666) -> None:
        self._root = root.absolute()
        self._file_mode = file_mode

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

    def write(self, path: str, data: bytes, *, replace: bool = True) -> None:
        """See :class:`Store`."""
        target = self._path(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        with errors("write", target):
            self._make_directory(target.parent)
            try:
                write_durably(temporary, data, self._file_mode)
                if replace:
                    temporary.replace(target)
                else:
                    os.link(temporary, target)
            except FileExistsError:
                if target.read_bytes() != data:
                    raise ObjectExists(f"{target} is there already with other content", path=str(target)) from None
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
        path = self._path(directory) if directory else self._root
        with errors("list", path):
            yield from list_files(path)

    def delete(self, path: str) -> None:
        """See :class:`Store`."""
        target = self._path(path)
        with errors("delete", target), contextlib.suppress(FileNotFoundError):
            target.unlink()
            sync_directory(target.parent)

    def discard(self, path: str) -> None:
        """See :class:`Store`."""
        self.delete(path)

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
        return self._root / inside(path, str(self._root))

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
