"""The error JSON of a failed job, and whether it is an ERROR or a FATAL (``spec/metadata-db.md`` 5.6 to 5.8)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ampd_ray.errors import AmpdError, Handling, JobFailed, chain_of
from ampd_ray.log import redact
from ampd_ray.metadb.statuses import JobStatus, failure_status

MAX_BYTES = 16 * 1024
MAX_TEXT_CHARS = 2048  # of the message and of each entry of the stack trace
MAX_DETAIL_CHARS = 256

# Facts of an error that people look for, under the names of 5.6.
CONTEXT_KEYS = ("block_range_start", "block_range_end", "block", "provider", "host", "table", "check")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known about the run that failed. ``index`` counts SCHEDULED events (first run = 1).

    ``failures`` counts consecutive failed runs, this one included. None = the lookup failed: an error is never
    hidden because something about it could not be found out.
    """

    index: int | None = None
    failures: int | None = None
    dataset: str | None = None
    manifest_hash: str | None = None


def final_status(error: AmpdError, attempt: Attempt, max_attempts: int) -> JobStatus:
    """ERROR if time may help and the job is not exhausted (5.8), else FATAL."""
    return failure_status(
        retryable=error.retryable,
        failures=attempt.failures or 0,
        scheduled=attempt.index or 0,
        failures_max=max_attempts,
    )


def error_json(error: AmpdError, attempt: Attempt) -> dict[str, Any]:
    """The object for ``jobs_status.detail`` and the event: no secrets, below 16 KiB."""
    context: dict[str, Any] = {
        "stack_trace": [_text(message) for message in chain_of(error)[1:]] or None,
        "attempt_index": attempt.index,
        "dataset": attempt.dataset,
        "manifest_hash": attempt.manifest_hash,
        **_facts(error),
        "error_class": error_class(error),
        "implementation": "ampd-ray",
    }
    result = {
        "error_code": error_code(error),
        "error_message": _text(str(error)),
        "error_context": {key: value for key, value in context.items() if value is not None},
    }
    return _bounded(result)


def error_code(error: AmpdError) -> str:
    """The code of 5.7: the step that failed, where one is known."""
    return error.step if isinstance(error, JobFailed) else error.code


def error_class(error: AmpdError) -> str:
    """``transient``, ``bounded`` or ``fatal``: of the outermost cause that JobFailed wraps."""
    causes = list(_causes(error))
    classified = [cause for cause in causes if not isinstance(cause, JobFailed)]
    if classified:
        return classified[0].handling.value
    return (Handling.BOUNDED if error.retryable else Handling.FATAL).value


def _causes(error: BaseException | None) -> Iterator[AmpdError]:
    for _ in range(16):
        if error is None:
            return
        if isinstance(error, AmpdError):
            yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _facts(error: AmpdError) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for cause in _causes(error):
        for key in CONTEXT_KEYS:
            if cause.details.get(key) is not None:
                facts.setdefault(key, _fact(cause.details[key]))
    if "block" in facts:
        facts.setdefault("block_range_start", facts["block"])
        facts.setdefault("block_range_end", facts["block"])
    return facts


def _fact(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else _text(str(value), MAX_DETAIL_CHARS)


def _text(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    # NUL is the one character that jsonb refuses.
    clean = redact(text).replace("\x00", "\ufffd").encode(errors="replace").decode()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _bounded(result: dict[str, Any]) -> dict[str, Any]:
    """Drop the innermost causes, all but the last, until the whole fits."""
    trace = result["error_context"].get("stack_trace", [])
    while len(json.dumps(result)) > MAX_BYTES and len(trace) > 1:
        del trace[-2]
    return result
