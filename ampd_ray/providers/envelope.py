"""The JSON-RPC 2.0 envelope: calls into request bytes, answer bytes into replies whose results stay unparsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from ampd_ray.providers.bodies import check_weight
from ampd_ray.providers.failures import UNREADABLE, Failed, not_json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One JSON-RPC call. ``decode`` makes the value of the result's bytes; ``block`` is the one whose data they are.

    A null result is tried again, unless ``null_is_final``.
    """

    method: str
    params: list[Any]
    decode: Callable[[msgspec.Raw], T]
    block: int | None = None
    null_is_final: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What goes over the wire at once: one call, or a batch if ``batch``; ``ids`` in the order of its calls."""

    payload: bytes
    ids: tuple[int, ...]
    batch: bool


class Reply(msgspec.Struct, gc=False):
    """One reply; ``result`` and ``error`` are empty where the key is absent."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """The replies of one message of ``size`` bytes; ``retry_after`` in seconds, from its HTTP header.

    ``unread``: the message, if its one reply was told by how it begins and ends. Should its result not be readable, it
    has to be decoded.
    """

    replies: Sequence[Reply]
    batch: bool
    size: int
    retry_after: float | None = None
    unread: bytes | None = None


MAX_ERROR_BYTES = 64 * 1024

_one = msgspec.json.Decoder(Reply)
_many = msgspec.json.Decoder(list[Reply])
_any = msgspec.json.Decoder()
# As nearly all nodes answer one call; no blank is part of the result.
_plain = re.compile(rb'\{"jsonrpc":"2\.0","id":(0|[1-9]\d{0,17}),"result":(?=\S)').match
_plain_end = re.compile(rb"\S\}").fullmatch


def encode(calls: Sequence[Call[Any]], ids: Sequence[int]) -> Request:
    """One call alone, several as a batch."""
    bodies = [
        {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.params}
        for number, call in zip(ids, calls, strict=True)
    ]
    batch = len(bodies) > 1
    return Request(msgspec.json.encode(bodies if batch else bodies[0]), tuple(ids), batch)


def decode(body: bytes | bytearray, retry_after: float | None = None) -> Answer:
    """Parse a message. Raises ``UNREADABLE``, and ``Failed`` for one that would take too much memory."""
    check_weight(body)
    batch = body[:64].lstrip()[:1] == b"["
    replies = _many.decode(body) if batch else [_one.decode(body)]
    return Answer(replies, batch, len(body), retry_after)


def decode_or_fail(body: bytes, retry_after: float | None = None) -> Answer:
    """As :func:`decode`; raises ``Failed``, which says what the body looks like."""
    try:
        return decode(body, retry_after)
    except UNREADABLE as error:
        raise Failed(not_json(body, nested=isinstance(error, RecursionError))) from None


def skim_or_fail(body: bytes, retry_after: float | None = None) -> Answer:
    """As :func:`decode_or_fail`, but one plain reply is told by how the message begins and ends: see ``unread``.

    To look for the end of a result takes half as long as to parse it.
    """
    plain = _plain(body)
    if plain is None or not _plain_end(body, len(body) - 2):
        return decode_or_fail(body, retry_after)
    check_weight(body)
    reply = Reply(int(plain[1]), msgspec.Raw(memoryview(body)[plain.end() : -1]))
    return Answer([reply], batch=False, size=len(body), retry_after=retry_after, unread=body)


def is_null(raw: msgspec.Raw) -> bool:
    """True for a literal ``null``."""
    view = memoryview(raw)
    return len(view) == 4 and view.tobytes() == b"null"


def is_absent(raw: msgspec.Raw) -> bool:
    """True if the key was not there."""
    return len(memoryview(raw)) == 0


def is_present(raw: msgspec.Raw) -> bool:
    """True if the key was there with a value."""
    return not is_absent(raw) and not is_null(raw)


def loosely(raw: msgspec.Raw) -> Any:
    """An error object in whatever form; a text about it where it is absurdly long or deep."""
    size = len(memoryview(raw))
    if size > MAX_ERROR_BYTES:
        return f"an error object of {size} bytes"
    try:
        return _any.decode(raw)
    except UNREADABLE:
        return "an unreadable error object"
