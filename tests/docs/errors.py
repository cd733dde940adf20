"""``docs/reference/errors.md``: every error code, with the sentence of its class."""

from __future__ import annotations

from collections.abc import Iterator

from ampd_ray import errors
from ampd_ray.errors import AmpdError
from tests.docs.markdown import page, summary, table

INTRODUCTION = """\
Every error that is expected is an `AmpdError` with a `code`, which stands in brackets in the error of a failed job.
What a job does about it: *transient*, it tries again until that passes; *bounded*, a few times, then it ends as
ERROR; *fatal*, it ends as FATAL; *fenced*, somebody else owns the job now, and this run ends without a word. The
exit code is that of a command which ends with the error."""


def errors_page() -> str:
    """The page."""
    rows = sorted((kind.code, kind) for kind in _below(AmpdError) if kind.__module__ == errors.__name__)
    return page(
        "Error codes",
        INTRODUCTION,
        [table(["Code", "Class", "A job", "Exit code", "Meaning"], (_row(code, kind) for code, kind in rows))],
    )


def _row(code: str, kind: type[AmpdError]) -> list[str]:
    return [f"`{code}`", f"`{kind.__name__}`", str(kind.handling), str(kind.exit_code), summary(kind.__doc__)]


def _below(kind: type[AmpdError]) -> Iterator[type[AmpdError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)
