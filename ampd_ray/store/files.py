"""The one interface of local directories and object stores (``spec/data.md`` 5.1, ``spec/commit.md`` 4).

What is published is written once, complete or not there at all. All calls block; coroutines use
``asyncio.to_thread``. Paths are relative to the store, with ``/``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from ampd_ray.config import local_path
from ampd_ray.errors import ObjectMissing
from ampd_ray.store.disk import Listed, ObjectMeta
from ampd_ray.store.local import LocalStore

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["Listed", "LocalStore", "ObjectMeta", "Store", "open_store", "reach"]


class Store(Protocol):
    """A data, manifest or provider directory. Calls raise ``StoreError``, ``StoreFull`` or what they name."""

    def url_of(self, path: str) -> str:
        """The object's URL, as Amp registers it; for a directory, without a trailing slash."""

    def path_of(self, url: str) -> str | None:
        """The path of the object that ``url_of`` gives this URL; None if it is not in this store."""

    def read(self, path: str) -> bytes:
        """The whole object; ``ObjectMissing`` if there is none."""

    def write(self, path: str, data: bytes, *, replace: bool = True) -> None:
        """Put a small object in place at once; without ``replace``, ``ObjectExists`` if other bytes are there."""

    def exists(self, path: str) -> bool:
        """True if the object is there."""

    def head(self, path: str) -> ObjectMeta:
        """Size, tag and checksum of what is there now, read back; ``ObjectMissing`` if it is not."""

    def open(self, path: str) -> BinaryIO:
        """The object for reading, from any place in it; ``ObjectMissing`` if there is none. The caller closes it."""

    def arrow(self) -> FileSystem:
        """The store as a file system of Arrow, for reading; the store's own relative paths open in it."""

    def objects(self, directory: str) -> Iterator[Listed]:
        """The objects directly in a directory, "" for the store's own, in no order; none if it is not there."""

    def delete(self, path: str) -> None:
        """Remove an object; one that is gone is as good."""

    def discard(self, path: str) -> None:
        """Remove an object that nobody will register, and what unfinished uploads of it are left."""

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


def open_store(location: str, *, private: bool = False) -> Store:
    """The store at a path or URL of the settings. Raises ``ConfigError`` for one whose credentials are incomplete.

    ``private``: what is written to a local directory is for its owner only.
    """
    path = local_path(location)
    if path is not None:
        return LocalStore(path, file_mode=0o600 if private else 0o666)
    from ampd_ray.store.objects import open_objects  # noqa: PLC0415 - few commands need the clients

    return open_objects(location)


def reach(location: str) -> None:
    """Ask the store at a path or URL for an object that is not there. Raises what keeps it from saying so."""
    with contextlib.suppress(ObjectMissing):
        open_store(location).read(".ampd-ray-reach")
