"""JSON messages out of a byte stream: mostly but not surely one a line, and cut anywhere."""

from __future__ import annotations

import re

from ampd_ray.providers.bodies import check_size, check_values
from ampd_ray.providers.envelope import Answer, decode
from ampd_ray.providers.failures import UNREADABLE, Failed, not_json

_BLANKS = re.compile(rb"\s+")
_MARK = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)  # up to its end, or to half an escape
_DEEPER = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_START_BYTES = 64


class MessageStream:
    """Takes a newline, else the end of a chunk, for the end of a message, and parses what is before it.

    Where that fails the message is scanned for its end. So a byte is looked at a few times at most, however the
    messages are cut or glued together.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no newline stands before this byte
        self._scan: MessageScan | None = None  # of the message at the front, once parsing it has failed

    def feed(self, chunk: bytes) -> list[Answer]:
        """The messages that ``chunk`` completes. Raises ``Failed`` on what is not JSON, or far too much of it."""
        self._buffer += chunk
        check_size(len(self._buffer))
        may_end = chunk.rstrip()[-1:] in (b"}", b"]")
        answers: list[Answer] = []
        while (answer := self._guessed(may_end) or self._scanned()) is not None:
            answers.append(answer)
        return answers

    def _guessed(self, may_end: bool) -> Answer | None:
        """The message up to the likely end, if that is right; if it is wrong a scan begins."""
        if self._scan is not None:
            return None
        if blanks := _BLANKS.match(self._buffer):
            self._drop(blanks.end())
        end = self._buffer.find(b"\n", self._searched) + 1
        self._searched = end or len(self._buffer)
        if not end and not (may_end and self._buffer):
            return None
        try:
            return self._take(end or len(self._buffer))
        except UNREADABLE:
            self._scan = MessageScan(self._buffer)
            return None

    def _scanned(self) -> Answer | None:
        """The message up to the end that the scan finds; what follows it on the same line is scanned too."""
        end = self._scan.end(self._buffer) if self._scan is not None else None
        if end is None:
            return None
        try:
            answer = self._take(end)
        except UNREADABLE as error:
            raise Failed(not_json(self._buffer[:end], nested=isinstance(error, RecursionError))) from None
        if bytes(self._buffer[:_START_BYTES]).lstrip(b" \t\r")[:1] not in (b"", b"\n"):
            self._scan = MessageScan(self._buffer)
        return answer

    def _take(self, end: int) -> Answer:
        """Parse the message that ends there, and drop it. Raises ``UNREADABLE``, and keeps it then."""
        with memoryview(self._buffer) as view:
            message = bytes(view[:end])
        answer = decode(message)
        self._drop(end)
        self._scan = None
        return answer

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._searched = 0


class MessageScan:
    """Looks for the end of the JSON message at the front of a growing text; remembers how far it got.

    Raises ``Failed`` if none begins there.
    """

    def __init__(self, text: bytearray) -> None:
        start = bytes(text[:_START_BYTES])
        if start.lstrip()[:1] not in (b"{", b"["):
            raise Failed(not_json(start))
        self._at = self._depth = self._opened = 0
        self._in_string = False

    def end(self, text: bytearray) -> int | None:
        """Where the message ends; None if it goes on beyond ``text``."""
        while self._leave_string(text) and (mark := _MARK.search(text, self._at)) is not None:
            self._at = mark.end()
            self._in_string = mark[0] == b'"'
            deeper = _DEEPER.get(mark[0], 0)
            self._depth += deeper
            self._opened += deeper > 0
            if not self._in_string and self._depth == 0:
                return self._at
        if not self._in_string:
            self._at = len(text)
        check_values(self._at, self._opened)
        return None

    def _leave_string(self, text: bytearray) -> bool:
        """Go behind the string that we are in; false if it goes on."""
        if self._in_string:
            inside = _IN_STRING.match(text, self._at)
            assert inside is not None  # the empty string matches
            self._at = inside.end()
            self._in_string = text[self._at : self._at + 1] != b'"'
            self._at += not self._in_string
        return not self._in_string
