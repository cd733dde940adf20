"""``amp.plan``: what a backfill would take, by a sample of its blocks, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ampd_ray.chain.ranges import Span, subtract, union
from ampd_ray.client.current import chosen_session
from ampd_ray.client.loop import LoopThread
from ampd_ray.client.planning import report
from ampd_ray.client.planning.estimate import Estimator, Figures, Pace, bill, without
from ampd_ray.client.planning.parquet import encoded
from ampd_ray.client.planning.place import Place, existing
from ampd_ray.client.planning.sample import OnProgress, Sampler
from ampd_ray.client.planning.seen import Sample
from ampd_ray.client.planning.strata import Estimate, choose
from ampd_ray.client.request import BackfillRequest, Probe, probe
from ampd_ray.client.session import Client
from ampd_ray.client.target import solo_directory
from ampd_ray.datasets.evm.verdicts import Level
from ampd_ray.materialize.types import WriterOptions

SAMPLES = 64  # blocks
EXTRACTORS = (1, 2, 4, 8)
CROWDED = 1.5  # seconds for a CPU second: worth a word

__all__ = ["Estimate", "Pace", "Plan", "plan"]


@dataclass(frozen=True, repr=False)
class Plan:
    """What a backfill of blocks ``start`` to ``end`` (included) would take; prints as a table.

    ``blocks`` are to be extracted, ``covered`` are there already. All other figures are of those ``blocks``, but for
    ``unserved``, which the provider does not have. Estimates come with the interval that holds the true figure nine
    times in ten: ``calls`` by method, ``rows`` by table, ``wire_bytes`` of JSON, ``units`` of computing and ``cost`` in
    ``currency`` where the provider's file has a price. ``times``: with so many extractors. ``sampled`` blocks were
    fetched for it.
    """

    network: str
    chain_id: int
    host: str
    provider: str | None
    start: int
    end: int
    tables: tuple[str, ...]
    blocks: int
    covered: int
    unserved: tuple[Span, ...]
    tasks: int
    calls: Mapping[str, Estimate]
    requests: Estimate
    wire_bytes: Estimate
    rows: Mapping[str, Estimate]
    files: Mapping[str, int]
    parquet_bytes: Estimate
    times: tuple[Pace, ...]
    units: Estimate | None
    cost: Estimate | None
    currency: str | None
    sampled: int
    sampled_bytes: int
    seconds: float
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The output of ``ampd backfill --plan --json``; an estimate is ``[value, low, high]``."""
        return report.as_json(self)

    def __repr__(self) -> str:
        return report.text(self)

    def _repr_html_(self) -> str:
        return report.html(self)


def plan(  # noqa: PLR0913 - those of backfill, and how to look
    client: Client | None = None,
    *,
    rpc: str,
    blocks: str,
    network: str | None = None,
    tables: Sequence[str] | None = None,
    writers: int = 1,
    verify: bool | Literal["full"] = False,
    samples: int = SAMPLES,
    on_progress: OnProgress = lambda done, of: None,
) -> Plan:
    """Look at ``samples`` blocks across the range and say what ``backfill`` with the same arguments would take.

    Nothing is written. What is covered already is left out, by the database of ``client``, which is the current
    session, else of ``AMP_CONFIG``, else of the solo environment in ``AMP_DIR`` or ``./.amp``, if there is one.
    ``on_progress`` is told how many of so many blocks were looked at; it takes 20 seconds at most with a provider that
    answers.

    Raises ``InvalidRange``, ``InvalidName``, ``ConfigError``, ``WrongChain`` or a ``ProviderError``.
    """
    chosen = None if tables is None else tuple(tables)
    request = BackfillRequest(rpc, blocks, network, chosen, writers, verify)
    request.checked()
    config = os.environ.get("AMP_CONFIG")
    with existing(client or chosen_session(), Path(config) if config else None, solo_directory(os.environ)) as place:
        return plan_in(place, request, probe(request), samples, on_progress)


def plan_in(
    place: Place,
    request: BackfillRequest,
    found: Probe,
    samples: int = SAMPLES,
    on_progress: OnProgress = lambda done, of: None,
) -> Plan:
    """The plan of a request to a provider that says this of itself; raises as :func:`plan` does."""
    network = request.network_of(found)
    name, config = place.provider(request, network)
    span = place.span(request, found, network)
    missing = place.missing(request, network, span)
    todo = union(*missing.values())
    facts: dict[str, Any] = {
        "network": network,
        "chain_id": found.chain_id,
        "host": config.host,
        "provider": name,
        "start": span.start,
        "end": span.end,
        "tables": tuple(missing),
        "covered": len(span) - sum(map(len, todo)),
    }
    if not todo:
        return Plan(**facts, **_nothing(tuple(missing)))
    strata = choose(todo, samples)
    level = {False: Level.OFF, True: Level.ROOTS, "full": Level.FULL}[request.verify]
    sample = _run(Sampler(config, found.chain_id, strata, tuple(missing), level, on_progress))
    unserved = _unserved(todo, sample)
    served = {table: subtract(spans, unserved) for table, spans in missing.items()}
    parquet = encoded(sample, tuple(missing), WriterOptions.of(place.settings.writer))
    estimator = Estimator(served, without(strata, unserved), sample, parquet)
    figures = estimator.figures(place.target(request, config), EXTRACTORS)
    price = config.ampd_ray.price
    units, cost = (None, None) if price is None else bill(figures.calls, price)
    return Plan(
        **facts,
        **_of(figures),
        unserved=tuple(unserved),
        units=units,
        cost=cost,
        currency=None if price is None else price.currency,
        sampled=sample.blocks,
        sampled_bytes=sample.wire_bytes,
        seconds=sample.secs,
        notes=tuple(_notes(place, sample, len(strata), config.host, priced=price is not None)),
    )


def _run(sampler: Sampler) -> Sample:
    loop = LoopThread()
    try:
        return loop.run(sampler.take())
    finally:
        loop.close()


def _unserved(todo: Sequence[Span], sample: Sample) -> list[Span]:
    if not sample.first_served:
        return []
    return subtract(todo, [Span(sample.first_served, max(sample.first_served, todo[-1].end))])


def _of(figures: Figures) -> dict[str, Any]:
    return {
        "blocks": figures.blocks,
        "tasks": figures.tasks,
        "calls": figures.calls,
        "requests": figures.requests,
        "wire_bytes": figures.wire_bytes,
        "rows": figures.rows,
        "files": figures.files,
        "parquet_bytes": figures.parquet_bytes,
        "times": tuple(figures.times),
    }


def _nothing(tables: tuple[str, ...]) -> dict[str, Any]:
    """All of it is there."""
    none = Estimate.exactly(0)
    return {
        "blocks": 0,
        "unserved": (),
        "tasks": 0,
        "calls": {},
        "requests": none,
        "wire_bytes": none,
        "rows": dict.fromkeys(tables, none),
        "files": dict.fromkeys(tables, 0),
        "parquet_bytes": none,
        "times": (),
        "units": None,
        "cost": None,
        "currency": None,
        "sampled": 0,
        "sampled_bytes": 0,
        "seconds": 0.0,
        "notes": (),
    }


def _notes(place: Place, sample: Sample, strata: int, host: str, *, priced: bool) -> list[str]:
    """What else there is to know."""
    notes = []
    if place.why_not is not None:
        notes.append(f"what is covered already is not known: {place.why_not}")
    if sample.unserved and sample.first_served is None:
        notes.append(f"{len(sample.unserved)} of the {strata} places looked at are not served by {host}")
    if sample.faults:
        first = sample.faults[0].message
        notes.append(f"{len(sample.faults)} of the {strata} places looked at could not be used; the first: {first}")
    if len(sample.runs) + len(sample.faults) + len(sample.unserved) < strata:
        notes.append(
            f"only {len(sample.runs)} of {strata} places were looked at: the provider is slow, or blocks large"
        )
    if sample.throttled:
        notes.append(f"{host} refused {sample.throttled} calls of this sample for coming too fast: it will take longer")
    if sample.crowding > CROWDED:
        notes.append(f"this machine is busy: a process gets {100 / sample.crowding:.0f} % of a core")
    if not priced:
        notes.append("no price in the provider's file: see docs/how-to/plan.md")
    return notes
