"""What a provider's answer means: each HTTP status and JSON-RPC error put into a class of ``spec/data.md`` 2.5.

A :class:`Failure` is one failed try; when the tries are used up it becomes an error of ``ampd_ray.errors``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from ampd_ray.errors import (
    BlockUnavailable,
    DataFault,
    MalformedResponse,
    MethodMissing,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    ResponseTooLarge,
)

# Tries of one call, the first included; a class that is not named here is tried once. A block with a DataFault is
# fetched again with its receipts, see ``evm_rpc.py``.
TRIES: dict[type[ProviderError], int] = {
    ProviderUnreachable: 8,
    RateLimited: 8,
    BlockUnavailable: 6,
    MalformedResponse: 3,
    ProviderError: 3,
}

ADVICE: dict[type[ProviderError], str] = {
    ProviderUnreachable: "Check that the node is up and that its url is right.",
    RateLimited: "Lower rate_limit_per_minute or concurrent_request_limit in the provider file.",
    ResponseTooLarge: "Lower rpc_batch_size in the provider file, or use a provider with a higher limit.",
    ProviderRefused: "Check auth_token and auth_header in the provider file, or the key in its url.",
    MethodMissing: "Use a provider that has it.",
    MalformedResponse: "Check that its url is that of a JSON-RPC endpoint.",
    DataFault: "Use another provider.",
    BlockUnavailable: "It may lag behind or have pruned it: try later, or use an archive node.",
    ProviderError: "Check the provider.",
}


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What parsing raises: for JSON that is malformed or of another form, not UTF-8, nested too deeply."""

MAX_WAIT_SECS = 86_400.0  # more is nothing that anybody means
MAX_MESSAGE_CHARS = 1000  # the words that decide come first


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed try: ``text`` continues "provider X at host …"; ``final``: the same call cannot succeed."""

    error: type[ProviderError]
    text: str
    retry_after: float | None = None  # seconds that the provider asked for
    timed_out: bool = False
    bad_params: bool = False  # it does not accept a parameter of this form
    final: bool = False
    shared: bool = False  # by all requests on a connection: whose answer it was is not known
    took: float = 0.0  # seconds from sending to failing

    @property
    def tries(self) -> int:
        """How often to try before giving up."""
        if self.shared:  # for most of them the connection was lost, and that is all
            return TRIES[ProviderUnreachable]
        return 1 if self.final else TRIES.get(self.error, 1)

    @property
    def splits(self) -> bool:
        """True if a batch may succeed in halves."""
        return self.error is ResponseTooLarge or self.timed_out


class Failed(Exception):
    """A whole request failed. Never leaves this package."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


_TOO_LARGE = re.compile(
    r"too (large|big|long)|batch (size|limit|of more)|(maximum|max) (batch|response)|(response|payload|body) size"
    r"|too many (requests|calls) in .*batch|query returned more than|exceed\w* .*\b(size|bytes|mb)\b"
)
_THROTTLED = re.compile(
    r"rate.?limit|too many requests|requests? (limit|count|per)|per second|capacity|compute units|throttl|quota"
    r"|credits|limit exceeded|slow down|backoff"
)
_MISSING = re.compile(
    r"(un(supported|known)|no such) method|method\b.* (not (found|supported|available|allowed|enabled|whitelisted)"
    r"|does not exist|disabled|unavailable)|not implemented"
)
_PRUNED = re.compile(r"pruned|missing trie node|histor(y|ical)|archive")
_ABSENT = re.compile(
    r"(header|block|receipts?|transaction|resource)s?\b.* (not (found|available|known|yet)|unavailable|does not exist)"
    r"|unknown block|after last accepted|(beyond|above|past) (the )?(current )?head"
)
_TIMED_OUT = re.compile(r"time[ds]?[ -]?out|deadline exceeded|took too long")
_BAD_PARAMS = re.compile(r"invalid (argument|param|block|type|length)|hex string|cannot unmarshal|could not parse")
_WAIT = re.compile(r"(?:retry|again|wait)\D{0,20}?(\d+(?:\.\d+)?) ?(ms|s\b|sec|m\b|min)")
_STATUSES: dict[int, tuple[type[ProviderError], str]] = {
    401: (ProviderRefused, "the credentials do not work"),
    403: (ProviderRefused, "access denied"),
    413: (ResponseTooLarge, "too large"),
    429: (RateLimited, "too many requests"),
}
_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0}


def of_rpc_error(error: Any, retry_after: float | None = None) -> Failure:
    """The class of a JSON-RPC error object; ``retry_after`` is that of the HTTP answer around it."""
    fields = error if isinstance(error, dict) else {"message": error}
    code = _int(fields.get("code"))
    message = _words(fields.get("message"))
    text = f"answered error {code}: {message[:200]}" if code is not None else f"answered the error: {message[:200]}"
    wait = retry_after if retry_after is not None else _wait_of(message.lower(), fields.get("data"))
    kind, flags = _kind(code, message.lower())
    return Failure(kind, text, retry_after=wait, **flags)


def _kind(code: int | None, message: str) -> tuple[type[ProviderError], dict[str, bool]]:  # noqa: PLR0911
    """Codes mean different things at different providers, so the words decide where they are clear."""
    if code in (-32601, -32004) or _MISSING.search(message):
        return MethodMissing, {}
    if _TOO_LARGE.search(message):
        return ResponseTooLarge, {}
    if code in (429, -32005) or _THROTTLED.search(message):
        return RateLimited, {}
    if _PRUNED.search(message):
        return BlockUnavailable, {"final": True}
    if _ABSENT.search(message):
        return BlockUnavailable, {}
    if code == -32001:
        return RateLimited, {}
    if _TIMED_OUT.search(message):
        return ProviderUnreachable, {"timed_out": True}
    if code == -32603:
        return ProviderUnreachable, {}
    if code in (401, 403):
        return ProviderRefused, {}
    if code == -32602 or _BAD_PARAMS.search(message):
        return ProviderError, {"bad_params": True, "final": True}
    return ProviderError, {}


def of_status(status: int, retry_after: float | None, body: bytes) -> Failure:
    """The class of an HTTP answer other than 200; a JSON-RPC error in ``body`` may say more than the status."""
    text = f"answered HTTP {status}"
    if status in _STATUSES:
        kind, meaning = _STATUSES[status]
        return Failure(kind, f"{text}: {meaning}", retry_after=retry_after)
    if 300 <= status < 400:
        return Failure(ProviderError, f"{text}: a redirect, which is not followed; give its final address", final=True)
    inner = _error_in(body, retry_after)
    if inner is not None and inner.error is not ProviderError:
        return inner
    if status in (408, 425) or status >= 500:
        return Failure(ProviderUnreachable, text, retry_after=retry_after, timed_out=status in (408, 504))
    return inner or Failure(ProviderError, f"{text}: there is no JSON-RPC endpoint at this address", final=True)


def _error_in(body: bytes, retry_after: float | None) -> Failure | None:
    try:
        answer = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    return of_rpc_error(error, retry_after) if error else None


def not_json(body: bytes | bytearray, *, nested: bool = False) -> Failure:
    """What an unparsable 200 answer is; ``nested`` if it is so too deeply."""
    if nested:
        return Failure(MalformedResponse, "answered JSON that is nested too deeply")
    start = body[:256].lstrip()
    if not start:
        return Failure(MalformedResponse, "answered nothing")
    if start.startswith(b"<"):
        return Failure(MalformedResponse, "answered HTML instead of JSON")
    if start[:1] in b"[{":
        return Failure(MalformedResponse, "answered truncated or malformed JSON")
    return Failure(MalformedResponse, "answered something that is not JSON")


def retry_after_of(header: str | None) -> float | None:
    """Seconds from a ``Retry-After`` header: a number or an HTTP date (RFC 9110, 10.2.3)."""
    if not header:
        return None
    if header.strip().isdecimal():
        return _seconds(float(header))
    try:
        date = parsedate_to_datetime(header)
        return _seconds((date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _wait_of(message: str, data: Any) -> float | None:
    """Providers also say it in the message ("try again in 2s") or in ``data.rate.backoff_seconds``."""
    rate = data.get("rate") if isinstance(data, dict) else None
    backoff = rate.get("backoff_seconds") if isinstance(rate, dict) else None
    if isinstance(backoff, int | float):
        return _seconds(backoff)
    found = _WAIT.search(message)
    return _seconds(float(found[1]) * _UNITS[found[2]]) if found else None


def _seconds(value: float) -> float:
    return float(max(0, min(value, MAX_WAIT_SECS)))


def _words(message: Any) -> str:
    """A message as one line of bounded length, without what a terminal or a database would trip over."""
    text = message[:MAX_MESSAGE_CHARS] if isinstance(message, str) else ""
    return "".join(char if char.isprintable() else " " for char in text)


def _int(value: Any) -> int | None:
    """A code, also one in quotes; None for what is no number or of an absurd size."""
    try:
        code = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return code if abs(code) < 1 << 63 else None
