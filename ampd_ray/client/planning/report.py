"""A plan as text for a terminal, as HTML for a notebook, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ampd_ray.client.planning.strata import Estimate

if TYPE_CHECKING:
    from ampd_ray.client.plans import Plan

Line = tuple[str, str]


def text(plan: Plan) -> str:
    """A line for each figure, then the times."""
    lines = [_title(plan)]
    lines += [f"  {name:<10}{what}" for name, what in facts(plan)]
    if plan.times:
        rows = [("extractors", "time", "limit"), *times(plan)]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines += [""]
        lines += [
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    lines += [""] if plan.notes or plan.sampled else []
    lines += [f"  {note}" for note in _below(plan)]
    return "\n".join(lines)


PLAIN = "background:none;color:inherit"  # the notebook's own, be it light or dark
CELL = f"padding:2px 12px 2px 0;text-align:left;{PLAIN}"
HEAD = f"{CELL};font-weight:600"


def html(plan: Plan) -> str:
    """The same as tables."""
    title = f'<div style="font-weight:600">{escape(_title(plan))}</div>'
    tables = [_table(_row(line, HEAD, CELL) for line in facts(plan))]
    if plan.times:
        header = _row(("extractors", "time", "limit"), HEAD, HEAD)
        tables.append(_table([header, *(_row(line, CELL, CELL) for line in times(plan))]))
    notes = "".join(f'<div style="opacity:.75">{escape(note)}</div>' for note in _below(plan))
    return f'<div style="{PLAIN};font-variant-numeric:tabular-nums">{title}{"".join(tables)}{notes}</div>'


def _table(rows: Iterable[str]) -> str:
    return f'<table style="border-collapse:collapse;margin:0 0 .5em;{PLAIN}">{"".join(rows)}</table>'


def _row(cells: Sequence[str], first: str, others: str) -> str:
    inner = "".join(f'<td style="{others if i else first}">{escape(cell)}</td>' for i, cell in enumerate(cells))
    return f'<tr style="{PLAIN}">{inner}</tr>'


def as_json(plan: Plan) -> dict[str, Any]:
    """Plain values; secrets are in none of them."""
    found = {name: _plain(value) for name, value in vars(plan).items()}
    found["times"] = [
        {"extractors": each.extractors, "seconds": _plain(each.seconds), "limit": each.limit, "here": each.here}
        for each in plan.times
    ]
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return [round(each, 3) for each in (value.value, value.low, value.high)]
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [[each.start, each.end] if hasattr(each, "start") else each for each in value]
    return round(value, 3) if isinstance(value, float) else value


def _title(plan: Plan) -> str:
    where = f"{plan.network} (chain {plan.chain_id}) at {plan.host}"
    return f"plan of {where}, blocks {plan.start:,} to {plan.end:,}"


def facts(plan: Plan) -> Iterator[Line]:
    """What it takes, a name and a text each."""
    yield "blocks", f"{plan.blocks:,} to extract, {plan.covered:,} there already"
    for span in plan.unserved:
        yield "not served", f"{len(span):,} blocks below {span.end + 1:,}: {plan.host} does not have them"
    if not plan.blocks:
        return
    yield "tasks", f"{plan.tasks:,}"
    yield "calls", ", ".join(f"{count(each)} {method}" for method, each in plan.calls.items() if each.high)
    yield "requests", count(plan.requests)
    yield "JSON", size(plan.wire_bytes)
    yield "rows", ", ".join(f"{count(rows)} {table}" for table, rows in plan.rows.items())
    each = sorted(set(plan.files.values()))
    yield "files", f"{sum(plan.files.values()):,}" + (f", {each[0]:,} of each table" if len(each) == 1 else "")
    yield "Parquet", size(plan.parquet_bytes)
    if plan.units is not None and plan.cost is not None:
        yield "units", f"{count(plan.units)} compute units"
        yield "cost", f"{_money(plan.cost)} {plan.currency}"


def times(plan: Plan) -> list[tuple[str, str, str]]:
    """With how many extractors, how long, and what limits."""
    return [
        (f"{each.extractors}{' here' if each.here else ''}", spread(each.seconds, TIMES), each.limit)
        for each in plan.times
    ]


def _below(plan: Plan) -> Iterator[str]:
    yield from plan.notes
    if any(each.here for each in plan.times):
        yield "here: all processes on this machine's cores; else each extractor and writer has one of its own"
    if plan.sampled:
        took = f"{_bytes(plan.sampled_bytes)} in {plan.seconds:.1f} s"
        yield f"estimated by {plan.sampled} blocks ({took}); nine times in ten the true figure is within the brackets"


# -- figures --------------------------------------------------------------------------------------------------------


def count(estimate: Estimate) -> str:
    """``≈ 1.2 M (1.1-1.3 M)``; exact where it is known."""
    if estimate.low == estimate.high:
        return f"{estimate.value:,.0f}"
    return spread(estimate, COUNTS)


def size(estimate: Estimate) -> str:
    """The same of bytes."""
    return spread(estimate, BYTES)


Units = Sequence[tuple[float, str]]  # ascending: from which value on a unit is used

COUNTS: Units = [(1, ""), (10_000, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")]
BYTES: Units = [(1, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"), (1e15, "PB")]
TIMES: Units = [(1, "s"), (90, "min"), (90 * 60, "h"), (48 * 3600, "d")]
_WORTH = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "s": 1, "min": 60, "h": 3600, "d": 86400}


def spread(estimate: Estimate, units: Units) -> str:
    """The figure and its bounds, all in the unit that suits the figure."""
    unit = max((unit for unit in units if unit[0] <= estimate.value), default=units[0])[1]
    worth = _WORTH[unit.removesuffix("B") if units is BYTES else unit]
    value, low, high = (_digits(each / worth, whole=worth == 1) for each in _ends(estimate))
    shown = value if low == high else f"{value} ({low}-{high}{f' {unit}' if unit else ''})"
    return f"≈ {value}{f' {unit}' if unit else ''}{shown.removeprefix(value)}"


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _digits(value: float, *, whole: bool) -> str:
    """As many as anybody can know."""
    return f"{value:,.0f}" if whole or value >= 100 else f"{value:.1f}"


def _money(estimate: Estimate) -> str:
    digits = 0 if estimate.value >= 100 else 2 if estimate.value >= 0.1 else 5
    value, low, high = (f"{each:,.{digits}f}" for each in _ends(estimate))
    return f"≈ {value}" if low == high else f"≈ {value} ({low}-{high})"


def _bytes(value: float) -> str:
    return size(Estimate.exactly(value)).removeprefix("≈ ")
