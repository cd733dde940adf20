"""An object store as Arrow sees it: a file system for readers, in which the store's own paths open."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType

from ampd_ray.errors import ObjectMissing

if TYPE_CHECKING:
    from ampd_ray.store.objects import ObjectStore


class ReadOnly(FileSystemHandler):  # type: ignore[misc]
    """Reads by the store's own client: what it can write with its credentials and endpoint, Arrow can read.

    Directories have no existence of their own in an object store: whatever is no object may be one.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadOnly) and self._store is other._store

    __hash__ = None  # type: ignore[assignment]

    def get_type_name(self) -> str:
        """The name that Arrow shows for it."""
        return "ampd-ray"

    def normalize_path(self, path: str) -> str:
        """A path as the store has it."""
        return path.strip("/")

    def get_file_info(self, paths: Sequence[str]) -> list[FileInfo]:
        """Each object with its size; what is none may be a directory."""
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> FileInfo:
        try:
            with self._store.ranges(path) as file:
                return FileInfo(path, FileType.File, size=file.seek(0, io.SEEK_END))
        except ObjectMissing:
            some = next(self._store.objects(path), None)
            return FileInfo(path, FileType.NotFound if some is None else FileType.Directory)

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """The objects directly in a directory."""
        if selector.recursive:
            raise NotImplementedError("a store lists one directory at a time")
        found = self._store.objects(selector.base_dir)
        return [FileInfo(f"{selector.base_dir}/{each.name}", FileType.File, size=each.size) for each in found]

    def open_input_file(self, path: str) -> Any:
        """An object, to read from any place in it."""
        try:
            return pa.PythonFile(self._store.ranges(path), mode="r")
        except ObjectMissing as error:
            raise FileNotFoundError(error.message) from error

    open_input_stream = open_input_file

    def _refuse(self, *_: object) -> NoReturn:
        raise NotImplementedError("what is in a store is changed by the store's own verbs")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse
