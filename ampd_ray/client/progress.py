"""How far a job is, as a person asks: one snapshot from Postgres, complete at every stage of a job's life."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ampd_ray.client.displays import card, plot
from ampd_ray.metadb.statuses import JobStatus

if TYPE_CHECKING:
    from ampd_ray.metadb.progress import JobRate


@dataclass(frozen=True)
class Progress:
    """A job now. Rates are of the last ten seconds of its run, None before there is one.

    ``done`` of ``total`` blocks are committed or in an open file, those that are set aside not among them; ``total`` is
    None while it follows the head. ``rows`` and ``bytes`` are of this run. ``limit`` is what holds it back: ``rpc``,
    ``cpu``, ``writer``, ``head``. ``age_secs`` is the age of the node's last word, None before the first; ``seconds``
    is how long the run takes, or took, since it ``began``: when it was scheduled last.
    """

    job_id: int
    dataset: str
    status: JobStatus
    phase: str | None = None
    node_id: str | None = None
    age_secs: float | None = None
    done: int = 0
    total: int | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    retries: int = 0
    rpc_requests: int = 0
    blocks_per_sec: float | None = None
    rows_per_sec: float | None = None
    requests_per_sec: float | None = None
    limit: str | None = None
    eta_secs: float | None = None
    holes: int = 0
    error: str | None = None
    seconds: float | None = field(default=None, compare=False)  # time that goes by is no progress
    began: datetime | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return card.card_text(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return card.card_html(self)

    @property
    def share(self) -> float | None:
        """0.0 to 1.0; None while it follows the head, or before its first plan."""
        return None if not self.total else min(1.0, self.done / self.total)


@dataclass(frozen=True)
class Rate:
    """What a job did in the seconds up to ``at``."""

    at: datetime
    secs: float
    blocks_per_sec: float
    rows_per_sec: float
    requests_per_sec: float
    limit: str | None


@dataclass(frozen=True)
class Rates:
    """A job's speed over time, oldest first, from Postgres: a restart of anything forgets none of it."""

    job_id: int
    samples: Sequence[Rate]

    @property
    def secs(self) -> float:
        """Of how many seconds something is known."""
        return sum(each.secs for each in self.samples)

    @property
    def blocks(self) -> float:
        """How many blocks were put into files in them, those that were lost and extracted again counted twice."""
        return sum(each.blocks_per_sec * each.secs for each in self.samples)

    @property
    def rows(self) -> float:
        """How many rows were fetched in them."""
        return sum(each.rows_per_sec * each.secs for each in self.samples)

    @property
    def requests(self) -> float:
        """How many requests that took."""
        return sum(each.requests_per_sec * each.secs for each in self.samples)

    def since(self, began: datetime) -> Rates:
        """What was after that, as of a job's last run (``Progress.began``)."""
        return Rates(self.job_id, tuple(each for each in self.samples if each.at > began))

    def __str__(self) -> str:
        return plot.rates_text(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return plot.rates_svg(self)


def rates_of(job_id: int, history: Iterable[JobRate]) -> Rates:
    """What was kept of a job (``metadb.progress.history``) as rates per second."""
    return Rates(
        job_id,
        tuple(
            Rate(
                each.at, each.secs, each.blocks / each.secs, each.rows / each.secs, each.requests / each.secs,
                each.limiting_factor,
            )
            for each in history
            if each.at is not None and each.secs > 0
        ),
    )  # fmt: skip
