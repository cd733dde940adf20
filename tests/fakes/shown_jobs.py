"""Jobs to display, and what could be true of one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from ampd_ray.client.progress import Progress, Rate, Rates
from ampd_ray.metadb.statuses import JobStatus

BEGAN = datetime(2026, 3, 1, 17, 41, 12, tzinfo=UTC)
LIMITS = ("rpc", "cpu", "writer", "head", "lease", "something new", None)


def progress(**facts: Any) -> Progress:
    """A job in the midst of its work, but for what is said otherwise."""
    usual: dict[str, Any] = {
        "job_id": 42, "dataset": "_/devnet", "status": JobStatus.RUNNING, "phase": "extracting", "node_id": "w1",
        "age_secs": 0.4, "done": 1902, "total": 3000, "rows": {"blocks": 1902, "logs": 60_311}, "bytes": 81_234_567,
        "retries": 2, "rpc_requests": 9012, "blocks_per_sec": 151.7, "rows_per_sec": 12_345.6,
        "requests_per_sec": 310.2, "limit": "rpc", "eta_secs": 7.2, "seconds": 13.0,
    }  # fmt: skip
    return Progress(**(usual | facts))


def rates(*blocks_per_sec: float, secs: float = 5.0, limit: str | None = "rpc") -> Rates:
    """One sample after the other, without a pause."""
    ends = [BEGAN + timedelta(seconds=secs * (at + 1)) for at in range(len(blocks_per_sec))]
    return Rates(
        42, [Rate(end, secs, each, 80 * each, 2 * each, limit) for end, each in zip(ends, blocks_per_sec, strict=True)]
    )


def _any_rates() -> st.SearchStrategy[Rates]:
    samples = st.tuples(
        st.floats(0, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1e12), st.floats(0, 1e12), st.floats(0, 1e12),
        st.sampled_from(LIMITS),
    )  # fmt: skip

    def of(drawn: list[tuple[float, float, float, float, float, str | None]]) -> Rates:
        at, found = BEGAN, []
        for pause, secs, blocks, rows, requests, limit in drawn:
            at += timedelta(seconds=pause + secs)
            found.append(Rate(at, secs, blocks, rows, requests, limit))
        return Rates(7, found)

    return st.lists(samples, max_size=30).map(of)


COUNTS = st.integers(0, 2**63 - 1)
MAYBE_RATE = st.none() | st.floats()
RATES = _any_rates()
PROGRESSES = st.builds(
    Progress,
    job_id=COUNTS,
    dataset=st.text(max_size=300),
    status=st.sampled_from(list(JobStatus)),
    phase=st.none() | st.sampled_from(("opening", "extracting", "waiting")),
    node_id=st.none() | st.text(max_size=300),
    age_secs=st.none() | st.floats(0, 1e12),
    done=COUNTS,
    total=st.none() | COUNTS,
    rows=st.dictionaries(st.text(max_size=100), COUNTS, max_size=30),
    bytes=COUNTS,
    retries=COUNTS,
    rpc_requests=COUNTS,
    blocks_per_sec=MAYBE_RATE,
    rows_per_sec=MAYBE_RATE,
    requests_per_sec=MAYBE_RATE,
    limit=st.none() | st.text(max_size=50),
    eta_secs=MAYBE_RATE,
    holes=COUNTS,
    error=st.none() | st.text(max_size=3000),
    seconds=st.none() | st.floats(0, 1e12),
)


class FakeJob:
    """A job whose next answers are those of ``says``: a progress, or an error to raise; the last one for ever."""

    def __init__(self, *says: Progress | Exception, job_id: int = 42, on_look: Callable[[], None] = lambda: None):
        self.id = job_id
        self.says = list(says)
        self.looks = self.rates_asked = 0
        self._on_look = on_look

    def progress(self) -> Progress:
        self.looks += 1
        self._on_look()
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, Exception):
            raise said
        return said

    def rates(self) -> Rates:
        self.rates_asked += 1
        return rates(100.0, 150.0)
