"""An object of an object store as a file: each read is one request for a range."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 8 << 20

Fetch = Callable[[int, int], bytes | memoryview]


def buffered(ranges: Ranges) -> BinaryIO:
    """For reading on and on."""
    return cast("BinaryIO", io.BufferedReader(ranges, BUFFER_BYTES))


class Ranges(io.RawIOBase):
    """A file of ``size`` bytes, of which ``fetch(start, end)`` gives those from ``start`` to before ``end``."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """To any place."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, also beyond the end."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"{origin + offset} is before the first byte")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer, short of it at the end of the object only."""
        room = memoryview(buffer).cast("B")
        end = min(self._size, self._at + len(room))
        count = max(0, end - self._at)
        if count:
            room[:count] = self._fetch(self._at, end)
            self._at = end
        return count

    def readall(self) -> bytes:
        """The rest, at once."""
        start, self._at = self._at, max(self._at, self._size)
        return bytes(self._fetch(start, self._size)) if start < self._size else b""
