"""Structured logs on stderr, in bounded lines without secrets.

One record is one line: ``key=value`` pairs, or JSON with ``AMP_LOG_FORMAT=json``. The level comes from ``AMP_LOG``
(``spec/metadata-db.md`` 9.3). Facts go in as ``extra``::

    logger.info("segment committed", extra={"table": "blocks", "rows": 3000})

What holds for a whole piece of work (``node_id``, ``job_id``, ``span``) is bound once, with :func:`bind`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

VALUE_BYTES = 2048  # bound of one logged value
FILE_BYTES = 10 << 20  # of a log file at a start, beyond which a new one is begun

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 1,
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "_ray_timestamp_ns"}
_bound: ContextVar[dict[str, Any] | None] = ContextVar("ampd_ray_log_context", default=None)

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.\-]{0,31})://([^\s\"'<>`]*)")
_HOST = re.compile(r"([\w.\-]+|\[[0-9a-fA-F:.]+\])(:\d+)?")
_SECRETS = (
    (re.compile(r"\b(Bearer|Basic)\s+[^\s\"',;]+", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(
            r"((?:password|passwd|secret|token|api_?key)[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&]+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)
_PATH_SCHEMES = frozenset({"file", "ipc"})  # a path on this machine: no secret, and the reader needs it
_OBJECT = re.compile(r"(?:s3a?|gs|az|adl|azure|abfss?)://[\w.\-]+(?:@[\w.\-]+)?(?:/[\w.\-/%]*)?[:,;]?")  # nor here


@contextmanager
def sparing(logger_name: str) -> Iterator[None]:
    """No warnings of this logger in this block, unless somebody wants to see more than warnings."""
    logger = logging.getLogger(logger_name)
    before = logger.level
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Add ``fields`` to every record of this block, and of the tasks started in it."""
    token = _bound.set({**(_bound.get() or {}), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def redact(text: str) -> str:
    """``text`` with each URL cut to ``scheme://host[:port]`` and with tokens and passwords hidden.

    What cannot be told apart from a password (an ``@`` after the authority) hides the host too.
    """
    text = _URL.sub(_host_only, text)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _host_only(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    if (scheme.lower() in _PATH_SCHEMES and rest.startswith("/")) or _OBJECT.fullmatch(match.group(0)):
        return match.group(0)
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    clear = _HOST.match(host) if "@" in authority or "@" not in rest else None
    return f"{scheme}://{clear.group(0) if clear else '***'}"


def setup(level: str | None = None, *, as_json: bool | None = None) -> None:
    """Send this process's logs to stderr; called again, it replaces what it set up before.

    ``level`` (default: ``AMP_LOG``, then ``info``) holds for this package; other libraries speak from WARNING on.
    An unknown level is a warning, not an end: ``AMP_LOG`` may hold a filter meant for Amp.
    """
    wanted = level or os.environ.get("AMP_LOG") or "info"
    formatter = _Formatter(os.environ.get("AMP_LOG_FORMAT", "").lower() == "json" if as_json is None else as_json)
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler.formatter, _Formatter)]:
        root.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root.addHandler(handler)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # each attempt at a database that is away: we say it
    logging.getLogger("ampd_ray").setLevel(_LEVELS.get(wanted.strip().lower(), logging.INFO))
    if wanted.strip().lower() not in _LEVELS:
        logging.getLogger(__name__).warning(
            "unknown log level, using info", extra={"level": wanted, "levels": "trace debug info warn error off"}
        )


def rotate(path: Path) -> None:
    """Start a log file anew once it is large; one old file is kept, with ``.1`` at its name. Raises ``OSError``."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > FILE_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))


class _Formatter(logging.Formatter):
    """A record as one line; each value is redacted, then bounded."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The whole line, without its newline."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": _bounded(redact(record.getMessage())),
        }
        facts = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        fields |= {name: _clean(value) for name, value in ((_bound.get() or {}) | facts).items()}
        if record.exc_info:
            # The end of a traceback says what happened and where: keep that.
            fields["traceback"] = _bounded(redact(self.formatException(record.exc_info)), keep_end=True)
        if self._as_json:
            return json.dumps(fields, ensure_ascii=False)
        return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


def _clean(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _bounded(redact(str(value)))


def _bounded(text: str, *, keep_end: bool = False) -> str:
    raw = text.encode(errors="replace")
    if len(raw) <= VALUE_BYTES:
        return raw.decode()
    cut = len(raw) - VALUE_BYTES
    kept = (raw[cut:] if keep_end else raw[:VALUE_BYTES]).decode(errors="ignore")
    return f"[{cut} bytes cut]…{kept}" if keep_end else f"{kept}…[{cut} bytes cut]"


def _quoted(value: Any) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(char in ' ="' for char in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
