"""Objects of a store as files for DuckDB, which speaks to none without a download: it reads them through the store.

Needs fsspec, which is how DuckDB takes file systems of Python.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final

from fsspec import AbstractFileSystem

from ampd_ray.config.directories import URL_SCHEMES
from ampd_ray.errors import ObjectMissing

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from ampd_ray.store.files import Store

OURS: Final = "ampd+"  # before a URL, so that nobody else's file system takes it for its own
_SIZES: Final = 100_000  # that are kept
_WRITTEN: Final = datetime(2015, 7, 30, tzinfo=UTC)


def make_readable(con: DuckDBPyConnection, root: str, store: Store) -> None:
    """From now on the connection reads the store, whose URL is ``root``, by URLs with ``OURS`` before them."""
    _committed.add(root, store)
    if not con.filesystem_is_registered(_committed.protocol[0]):
        con.register_filesystem(_committed)


class CommittedObjects(AbstractFileSystem):  # type: ignore[misc]
    """All stores that this process reads. Objects are written once."""

    cachable = False  # by thread, as fsspec would have it
    protocol: ClassVar = tuple(f"{OURS}{scheme}" for scheme in URL_SCHEMES)

    def __init__(self) -> None:
        super().__init__()
        self._stores: dict[str, Store] = {}
        self._size = lru_cache(maxsize=_SIZES)(self._measure)

    def add(self, root: str, store: Store) -> None:
        """Have what is below the URL ``root`` read from ``store``."""
        self._stores[root] = store

    def glob(self, path: str, **_: Any) -> list[str]:
        """The path itself: what is committed is there, and nothing is looked for."""
        return [path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Its size, which is asked for once. Raises what the store does."""
        return {"name": path, "size": self._size(path), "type": "file"}

    def modified(self, path: str) -> datetime:
        """Always the same."""
        return _WRITTEN

    def open(self, path: str, *_: Any, **__: Any) -> BinaryIO:
        """The object for reading. Raises what the store does."""
        url = path.removeprefix(OURS)
        root = max((root for root in list(self._stores) if url.startswith(root)), key=len, default=None)
        if root is None:
            raise ObjectMissing(f"{url} is in no data directory that is open here")
        return self._stores[root].open(url.removeprefix(root))

    def _measure(self, path: str) -> int:
        with self.open(path) as opened:
            return opened.seek(0, io.SEEK_END)


_committed = CommittedObjects()  # the one of all connections: which of them has it cannot be asked
