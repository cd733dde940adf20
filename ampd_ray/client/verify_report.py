"""What ``ampd verify`` found: blocks that failed, files that cannot be read, blocks that nothing could verify."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ampd_ray.chain.ranges import Span, merge, subtract
from ampd_ray.client.verify_span import SpanResult, Unverified, orphan
from ampd_ray.datasets.evm.verify import Level, Result, Verdict


@dataclass(frozen=True)
class Report:
    """The result for the blocks of ``wanted``; None if there are none."""

    dataset: str
    manifest_hash: str
    level: Level
    wanted: Span | None
    passed: int
    failed: tuple[Verdict, ...]
    problems: tuple[Unverified, ...]
    """Spans whose files could not be read or lack their rows, or whose rows make no blocks."""
    unverified: tuple[Unverified, ...]
    """Spans that are not there, and those that were verified in part."""
    seconds: float

    @property
    def sound(self) -> bool:
        """True if nothing was found to be wrong."""
        return not self.failed and not self.problems

    def as_json(self) -> dict[str, Any]:
        """The output of ``ampd verify --json``."""
        return {
            "dataset": self.dataset,
            "manifest_hash": self.manifest_hash,
            "level": str(self.level),
            "blocks": None if self.wanted is None else [self.wanted.start, self.wanted.end],
            "passed": self.passed,
            "failed": [
                {"block": v.block, "check": str(v.check), "expected": v.expected, "computed": v.computed}
                for v in self.failed
            ],
            "problems": [_as_json(each) for each in self.problems],
            "unverified": [_as_json(each) for each in self.unverified],
            "seconds": round(self.seconds, 3),
        }


def _as_json(stretch: Unverified) -> dict[str, Any]:
    return {"start": stretch.span.start, "end": stretch.span.end, "reason": stretch.reason}


def report(
    dataset: str, manifest_hash: str, level: Level, wanted: Span | None, results: Iterable[SpanResult], seconds: float
) -> Report:
    """What the results say together."""
    ordered = sorted(results, key=lambda result: result.span)
    verdicts = [verdict for result in ordered for verdict in result.verdicts] + _torn(ordered, level)
    failed = sorted((verdict for verdict in verdicts if verdict.failed), key=lambda verdict: verdict.block)
    missing = [] if wanted is None else subtract(wanted, [result.span for result in ordered])
    unverified = [Unverified(span, "not in the files of all tables") for span in missing]
    return Report(
        dataset,
        manifest_hash,
        level,
        wanted,
        sum(result.passed for result in ordered),
        tuple(failed),
        tuple(problem for result in ordered for problem in result.problems),
        tuple(unverified + _partly(verdicts)),
        seconds,
    )


def _torn(ordered: Sequence[SpanResult], level: Level) -> list[Verdict]:
    """Spans that begin with a block whose parent is not the last block of the span before."""
    return [
        orphan(after.span.start, level, after.parent, before.hash)
        for before, after in pairwise(ordered)
        if after.span.start == before.span.end + 1 and after.parent and before.hash and after.parent != before.hash
    ]


def _partly(verdicts: Iterable[Verdict]) -> list[Unverified]:
    """Neighbours that lack the same are one stretch."""
    reasons: dict[str, list[Span]] = {}
    for verdict in verdicts:
        if verdict.result in {Result.PARTIAL, Result.UNSUPPORTED}:
            reason = f"{verdict.check} not verified: it needs {verdict.missing}"
            reasons.setdefault(reason, []).append(Span(verdict.block, verdict.block))
    return [Unverified(span, reason) for reason, spans in reasons.items() for span in merge(spans)]
