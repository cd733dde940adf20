"""Files in an object store: PUT to their names, under which nothing may be yet (``spec/commit.md`` 4)."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar
from urllib.parse import quote, unquote

from obstore.exceptions import AlreadyExistsError

from ampd_ray.errors import ObjectExists, ObjectMissing, StoreError, StoreUnavailable
from ampd_ray.store.buckets import Bucket, open_bucket
from ampd_ray.store.disk import Listed, ObjectMeta, describe, errors
from ampd_ray.store.layout import STAGING, inside
from ampd_ray.store.local import LocalStore
from ampd_ray.store.ranges import Ranges, buffered
from ampd_ray.store.refusals import refusals
from ampd_ray.store.scratch import scratch

if TYPE_CHECKING:
    import obstore
    from pyarrow.fs import FileSystem

VARIABLES: Final = ("AWS_", "GOOGLE_", "AZURE_", "SSL_CERT_FILE")
LARGE_BYTES: Final = 16 << 20  # a larger file is sent in parts; any other is in memory as a whole
AGAIN_AFTER_SECS: Final = (0.1, 1.0, 4.0)

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


def open_objects(url: str) -> ObjectStore:
    """The store at a URL, one for all who ask: a client keeps connections and credentials.

    Raises ``ConfigError`` if the variables do not suffice for a client.
    """
    variables = tuple(sorted(each for each in os.environ.items() if each[0].startswith(VARIABLES)))
    return _open(url.rstrip("/") + "/", variables)


@lru_cache(maxsize=16)
def _open(url: str, variables: tuple[tuple[str, str], ...]) -> ObjectStore:
    """``variables`` are what the client is made from: with others it is another one."""
    return ObjectStore(url, open_bucket(url))


class ObjectStore:
    """A :class:`Store` below a URL with a trailing slash. What is unfinished is on this machine's disk."""

    def __init__(self, url: str, bucket: Bucket) -> None:
        self._url = url
        self._bucket = bucket

    def __repr__(self) -> str:
        return f"ObjectStore({self._url!r})"

    # -- names --------------------------------------------------------------------------------------------------------

    def url_of(self, path: str) -> str:
        """See :class:`Store`."""
        return self._url + quote(self._key(path))

    def path_of(self, url: str) -> str | None:
        """See :class:`Store`."""
        if not url.startswith(self._url):
            return None
        with contextlib.suppress(StoreError):
            return self._key(unquote(url.removeprefix(self._url)))
        return None

    def _key(self, path: str) -> str:
        return inside(path, self._url).as_posix()

    def _may(self, verb: str, path: str) -> contextlib.AbstractContextManager[None]:
        return refusals(verb, self.url_of(path), self._bucket.kind)

    # -- objects ------------------------------------------------------------------------------------------------------

    def read(self, path: str) -> bytes:
        """See :class:`Store`."""
        with self._may("read", path):
            return bytes(self._bucket.client.get(self._key(path)).bytes())

    def write(self, path: str, data: bytes, *, replace: bool = True) -> None:
        """See :class:`Store`."""
        try:
            with self._may("write", path):
                self._bucket.client.put(
                    self._key(path), data, mode="overwrite" if replace else "create", use_multipart=False
                )
        except AlreadyExistsError:
            if self.read(path) != data:  # else it was we, and the answer was lost
                raise ObjectExists(f"{self.url_of(path)} is there already with other content", path=path) from None

    def exists(self, path: str) -> bool:
        """See :class:`Store`."""
        try:
            self._look(path)
        except ObjectMissing:
            return False
        return True

    def head(self, path: str) -> ObjectMeta:
        """See :class:`Store`."""
        found = self._look(path)
        with buffered(self._ranges(path, found["size"])) as file:
            sha256 = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        return ObjectMeta(found["size"], found["e_tag"], found["version"], sha256)

    def open(self, path: str) -> BinaryIO:
        """See :class:`Store`."""
        return buffered(self.ranges(path))

    def ranges(self, path: str) -> Ranges:
        """As ``open``, but nothing is read ahead."""
        return self._ranges(path, self._look(path)["size"])

    def arrow(self) -> FileSystem:
        """See :class:`Store`."""
        from pyarrow.fs import PyFileSystem  # noqa: PLC0415 - Arrow takes long to import

        from ampd_ray.store.arrow import ReadOnly  # noqa: PLC0415 - Arrow takes long to import

        return PyFileSystem(ReadOnly(self))

    def objects(self, directory: str) -> Iterator[Listed]:
        """See :class:`Store`."""
        prefix = self._key(directory) if directory else None

        def listed() -> Sequence[obstore.ObjectMeta]:
            with refusals("list", self._url + directory, self._bucket.kind):
                return self._bucket.client.list_with_delimiter(prefix)["objects"]

        now = datetime.now(UTC)
        for each in _patiently(listed):
            parent, _, name = each["path"].rpartition("/")
            if parent == directory:  # some stores list the directory itself
                yield Listed(name, each["size"], (now - each["last_modified"]).total_seconds())

    def delete(self, path: str) -> None:
        """See :class:`Store`."""
        with self._may("delete", path), contextlib.suppress(FileNotFoundError):
            self._bucket.client.delete(self._key(path))

    def clear(self) -> None:
        """Delete every object of it: for one that was made to be thrown away."""
        with refusals("clear", self._url, self._bucket.kind):
            for found in self._bucket.client.list():
                self._bucket.client.delete([each["path"] for each in found])

    def discard(self, path: str) -> None:
        """See :class:`Store`."""
        with self._may("delete", path):
            self._bucket.large.abort(self._key(path))
        self.delete(path)  # after them: what is given up cannot become an object

    # -- unfinished files ---------------------------------------------------------------------------------------------

    @property
    def _scratch(self) -> LocalStore:
        """Asked for each time: systems clear out what is old in the place for temporary files, directories too."""
        return LocalStore(scratch(self._url))

    def stage(self, location_id: int, epoch: int, name: str) -> Path:
        """See :class:`Store`. Clears what a writer that died here left: this machine may have no sweep of its own."""
        self._scratch.clear_staging(location_id, epoch)
        return self._scratch.stage(location_id, epoch, name)

    def publish(self, staged: Path, path: str) -> ObjectMeta:
        """See :class:`Store`. An answer may be lost: what is there decides then; if nothing is, it is sent again."""
        with errors("read", staged):
            ours = describe(staged)
        return _patiently(lambda: self._publish(staged, path, ours))

    def _publish(self, staged: Path, path: str, ours: ObjectMeta) -> ObjectMeta:
        """Send the file, then look at what is there; read it back unless it is what was just accepted."""
        tag = self._create(staged, path, ours.size)
        try:
            found = self._look(path)
        except ObjectMissing:
            message = f"{self.url_of(path)} was sent and is not there; somebody gave its upload up, or deleted it"
            raise StoreUnavailable(message, path=path) from None
        if (found["size"], found["e_tag"]) != (ours.size, tag):
            there = self.head(path)
            if (there.size, there.sha256) != (ours.size, ours.sha256):
                content = f"other content ({there.size} bytes, ours has {ours.size})"
                raise ObjectExists(f"{self.url_of(path)} is there already with {content}", path=path)
        staged.unlink()
        return ObjectMeta(ours.size, found["e_tag"], found["version"], ours.sha256)

    def _create(self, staged: Path, path: str, size: int) -> str | None:
        """The tag of the new object; None if something is there."""
        with self._may("write", path):
            if size > LARGE_BYTES:
                return self._bucket.large.put(self._key(path), staged, size)
            try:
                return self._bucket.client.put(self._key(path), staged, mode="create", use_multipart=False)["e_tag"]
            except AlreadyExistsError:
                return None

    def clear_staging(self, location_id: int, below_epoch: int) -> None:
        """See :class:`Store`."""
        self._scratch.clear_staging(location_id, below_epoch)

    def staged_epochs(self, location_id: int) -> list[int]:
        """See :class:`Store`."""
        return self._scratch.staged_epochs(location_id)

    # -- the store as a whole -----------------------------------------------------------------------------------------

    def probe(self) -> None:
        """See :class:`Store`. A store that lets new objects replace others is told of: one guard is missing then."""
        path, data = f"{STAGING}/probe-{secrets.token_hex(8)}", secrets.token_bytes(64)
        self.write(path, data)
        try:
            if self.read(path) != data:
                raise StoreError(f"{self._url} does not give back what was written to it")
            with contextlib.suppress(ObjectExists):
                self.write(path, secrets.token_bytes(64), replace=False)
                _log.warning("the object store lets new objects replace others; it knows no If-None-Match")
        finally:
            self.delete(path)

    def free_bytes(self) -> int | None:
        """See :class:`Store`. An object store has no such figure."""
        return None

    # -- what the client answers --------------------------------------------------------------------------------------

    def _look(self, path: str) -> obstore.ObjectMeta:
        with self._may("read", path):
            return self._bucket.client.head(self._key(path))

    def _ranges(self, path: str, size: int) -> Ranges:
        def fetch(start: int, end: int) -> memoryview:
            with self._may("read", path):
                return memoryview(self._bucket.client.get_range(self._key(path), start=start, end=end))

        return Ranges(fetch, size)


def _patiently(call: Callable[[], T]) -> T:
    """Try a few times what the client does not try again: answers that end in their middle, requests that are lost."""
    for pause in AGAIN_AFTER_SECS:
        with contextlib.suppress(StoreUnavailable):
            return call()
        time.sleep(pause)
    return call()
