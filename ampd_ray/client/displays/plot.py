"""A job's speed over time as a picture, small and large, and as text (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ampd_ray.client.displays import figures, stretches, style
from ampd_ray.client.displays.axes import Scale, most, steps, ticks, time_step
from ampd_ray.client.displays.stretches import Stretch

if TYPE_CHECKING:
    from ampd_ray.client.progress import Rates

SPARK_POINTS: Final = 48
TEXT_POINTS: Final = 40
PLOT_POINTS: Final = 240
WIDTH, LEFT, RIGHT, TOP = 680, 56, 16, 42  # of the picture, in its units
PANEL, SPACE, STRIP = 92, 26, 12
PANELS: Final = ("blocks", "rows", "requests")
_STYLE: Final = (
    style.theme(".ampd-rates")
    + """
.ampd-rates{background:var(--a-bg);border:1px solid var(--a-line);border-radius:8px;max-width:720px;padding:6px;
margin:2px 0}
.ampd-rates svg{display:block;width:100%;height:auto;font:11px var(--a-font);fill:var(--a-mute)}
.ampd-rates .t{fill:var(--a-fg);font-weight:600}.ampd-rates .h{fill:var(--a-fg);font-weight:600;font-size:13px}
.ampd-rates .a{fill:#2f81f7;fill-opacity:.16}.ampd-rates .l{fill:none;stroke:#2f81f7;stroke-width:1.5}
.ampd-rates .g{stroke:var(--a-line);stroke-width:1}
""".replace("\n", "")
)


def sparkline(rates: Rates) -> str:
    """Blocks a second as a small line without axes; empty with less than two samples."""
    found = stretches.stretches(rates.samples, SPARK_POINTS)
    if len(found) < 2:
        return ""
    width, height = 120, 30
    x, y = Scale(0, found[-1].end, 0, width), Scale(0, most(found, "blocks"), height - 1, 2)
    runs = stretches.pieces(found)
    lines = "".join(steps(piece, "blocks", x, y) for piece in runs)
    areas = "".join(f"{steps(piece, 'blocks', x, y)}V{height}H{x(piece[0].start):.1f}Z" for piece in runs)
    return (
        f'<svg class="end go" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">'
        f"<title>blocks/s over {figures.duration(found[-1].end)}</title>"
        f'<path d="{areas}" fill="var(--a-tone)" fill-opacity=".18"/>'
        f'<path d="{lines}" fill="none" stroke="var(--a-tone)" stroke-width="1.5" stroke-linejoin="round"/></svg>'
    )


def rates_text(rates: Rates) -> str:
    """The same in one line: means, what limited it, and a line of characters for the blocks per second."""
    found = stretches.stretches(rates.samples, TEXT_POINTS)
    if not found:
        return f"job {rates.job_id}: no rates are recorded yet"
    means = ", ".join(f"{figures.number(getattr(rates, name) / rates.secs)} {name}/s" for name in PANELS)
    line = figures.sparks([stretch.per_sec("blocks") for stretch in found])
    limits = ", ".join(f"{name} {figures.share(part)}" for name, part in limits_of(found)[:4] if name is not None)
    text = f"job {rates.job_id}: {line} {means} over {figures.duration(rates.secs)}"
    return f"{text}; limited by {limits}" if limits else text


def rates_svg(rates: Rates) -> str:
    """Blocks, rows and requests per second over time, and a strip of what limited them."""
    found = stretches.stretches(rates.samples, PLOT_POINTS)
    if not found:
        return f'<div class="ampd-rates"><style>{_STYLE}</style>{escape(rates_text(rates))}</div>'
    bottom = TOP + len(PANELS) * (PANEL + SPACE)
    x = Scale(0, found[-1].end, LEFT, WIDTH - RIGHT)
    zero = stretches.began(rates.samples).astimezone(UTC)
    head = f"job {rates.job_id}: {figures.duration(rates.secs)} at work from {zero:%Y-%m-%d %H:%M} UTC"
    body = [f'<text class="h" x="{LEFT}" y="18">{head}</text>']
    for at, name in enumerate(PANELS):
        body.append(_panel(found, name, x, TOP + at * (PANEL + SPACE), rates))
    body.append(_limits(found, x, bottom))
    body.append(_times(rates, found, x, bottom + STRIP))
    legend = _legend(found, bottom + STRIP + 40)
    return (
        f'<div class="ampd-rates"><style>{_STYLE}</style><svg viewBox="0 0 {WIDTH} {bottom + STRIP + 50}" role="img">'
        f"<title>{escape(rates_text(rates))}</title>{''.join(body)}{legend}</svg></div>"
    )


def limits_of(found: Sequence[Stretch]) -> list[tuple[str | None, float]]:
    """What limited the job for which share of the time, the most first."""
    secs: dict[str | None, float] = {}
    for stretch in found:
        for name, part in stretch.limits.items():
            secs[name] = secs.get(name, 0.0) + part
    total = sum(secs.values()) or 1.0
    return sorted(((name, part / total) for name, part in secs.items()), key=lambda each: -each[1])


def _panel(found: Sequence[Stretch], name: str, x: Scale, top: float, rates: Rates) -> str:
    """One rate with its axis; the mean is beside its name."""
    marks = ticks(most(found, name), 3)
    y = Scale(0, marks[-1], top + PANEL, top + 14)
    parts = [
        f'<text class="t" x="{LEFT}" y="{top + 4}">{name}/s</text><text x="{WIDTH - RIGHT}" y="{top + 4}" '
        f'text-anchor="end">mean {figures.number(getattr(rates, name) / rates.secs)}</text>'
    ]
    parts += [
        f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{figures.brief(mark)}</text>'
        for mark in marks
    ]
    for piece in stretches.pieces(found):
        line = steps(piece, name, x, y)
        area = f"{line}V{y(0):.1f}H{x(piece[0].start):.1f}Z"
        parts.append(f'<path d="{area}" class="a"/>')
        parts.append(f'<path d="{line}" class="l"/>')
    return "".join(parts)


def _limits(found: Sequence[Stretch], x: Scale, top: float) -> str:
    """What limited the job most, at each time."""
    parts = [f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">limit</text>']
    for piece in stretches.pieces(found):
        for name, same in groupby(piece, lambda stretch: stretch.limit):
            if name is not None:
                first, *_, last = [*same] * 2
                parts.append(
                    f'<rect x="{x(first.start):.1f}" y="{top}" width="{max(0.5, x(last.end) - x(first.start)):.1f}" '
                    f'height="{STRIP}" fill="{style.colour_of(name)}"/>'
                )
    return "".join(parts)


def _times(rates: Rates, found: Sequence[Stretch], x: Scale, top: float) -> str:
    """The axis of time, at round times of the clock."""
    zero = stretches.began(rates.samples)
    step = time_step(found[-1].end, 7)
    parts = [f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top + 3}" y2="{top + 3}"/>']
    at = step - zero.timestamp() % step
    while at <= found[-1].end:
        label = figures.moment(zero + timedelta(seconds=at), step)
        parts.append(
            f'<line class="g" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{top + 3}" y2="{top + 7}"/>'
            f'<text x="{x(at):.1f}" y="{top + 19}" text-anchor="middle">{label}</text>'
        )
        at += step
    return "".join(parts)


def _legend(found: Sequence[Stretch], top: float) -> str:
    parts, at = [], float(LEFT)
    for name, part in limits_of(found)[:5]:
        if name is not None:
            label = f"{figures.limit(name)[:30]} {figures.share(part)}"
            parts.append(
                f'<rect x="{at:.0f}" y="{top - 8}" width="9" height="9" rx="2" fill="{style.colour_of(name)}"/>'
                f'<text x="{at + 13:.0f}" y="{top}">{escape(label)}</text>'
            )
            at += 30 + 6.2 * len(label)
    return "".join(parts)
