"""The card of a job: HTML of at most 10 kB without a script, and the same as plain text (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from ampd_ray.client.displays import plot, state, style
from ampd_ray.client.displays.state import NAME_CHARS, Notice

if TYPE_CHECKING:
    from ampd_ray.client.progress import Progress, Rates

BAR_CELLS: Final = 28
_TONES: Final = "".join(f".ampd-card .{name}{{--a-tone:{colour}}}" for name, colour in style.TONES.items())
_STYLE: Final = (
    style.theme(".ampd-card")
    + _TONES
    + """
.ampd-card{background:var(--a-bg);color:var(--a-fg);border:1px solid var(--a-line);border-radius:8px;
font:13px/1.45 var(--a-font);padding:12px 16px;margin:2px 0;max-width:680px;font-variant-numeric:tabular-nums}
.ampd-card div{margin:0}.ampd-card .row{display:flex;flex-wrap:wrap;gap:2px 12px;align-items:baseline}
.ampd-card .end{margin-left:auto}.ampd-card .mute{color:var(--a-mute)}.ampd-card b{font-weight:600}
.ampd-card .name{font-size:15px}
.ampd-card .badge{color:var(--a-tone);color:color-mix(in srgb,var(--a-tone) 78%,var(--a-fg));border-radius:99px;
background:color-mix(in srgb,var(--a-tone) 15%,transparent);padding:1px 10px;font-size:12px;font-weight:600}
.ampd-card .badge:before{content:"";display:inline-block;width:7px;height:7px;border-radius:9px;margin-right:6px;
background:var(--a-tone)}
.ampd-card .bar{display:flex;height:8px;border-radius:8px;overflow:hidden;margin:10px 0 6px;background:var(--a-line)}
.ampd-card .bar i{background:var(--a-tone)}
.ampd-card .endless{background:repeating-linear-gradient(115deg,var(--a-tone) 0 9px,
color-mix(in srgb,var(--a-tone) 55%,var(--a-bg)) 9px 18px)}
.ampd-card .rates{align-items:flex-end;gap:2px 26px;margin-top:10px}
.ampd-card .rates b{display:block;font-size:17px;line-height:1.2}
.ampd-card .tables{margin-top:8px;padding-top:8px;border-top:1px solid var(--a-line)}
.ampd-card .note{border-left:3px solid var(--a-tone);margin-top:8px;padding:1px 0 1px 10px;overflow-wrap:anywhere}
.ampd-card .small{font-size:12px;margin-top:6px}
""".replace("\n", "")
)


def card_html(now: Progress, rates: Rates | None = None, notes: Sequence[Notice] = ()) -> str:
    """The card, with a small line of the speed over time if ``rates`` are given; ``notes`` of the viewer come first.

    Where a viewer strips the style, as on GitHub, it is still text that reads well.
    """
    label, tone = state.badge(now)
    name = state.cut(now.dataset, NAME_CHARS) or "?"
    head = (
        f'<div class="row"><b class="name">{escape(name)}</b> <span class="mute">job {now.job_id}</span> '
        f'<span class="end badge {tone}">{escape(label)}</span></div>'
    )
    parts = [head, _bar(now, tone), _done(now), _speed(now, rates), _tables(now)]
    parts += [_note(each) for each in (*notes, *state.notices(now))]
    foot = ([f"node {state.cut(now.node_id, NAME_CHARS)}"] if now.node_id else []) + state.counters(now)
    if foot:
        parts.append(f'<div class="mute small">{escape(" · ".join(foot))}</div>')
    return f'<div class="ampd-card"><style>{_STYLE}</style>{"".join(parts)}</div>'


def _bar(now: Progress, tone: str) -> str:
    if now.share is None:
        busy = now.total is None and not now.status.terminal and now.done
        return f'<div class="bar {tone}{" endless" if busy else ""}"></div>'
    done = 100 * now.share
    aside = min(100 - done, 100 * now.holes / now.total) if now.total else 0.0
    holes = f'<i class="warn" style="width:{aside:.2f}%;min-width:3px"></i>' if now.holes and aside else ""
    bar_tone = "good" if tone == "warn" and now.status.terminal and now.holes else tone
    return (
        f'<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{done:.1f}">'
        f'<i class="{bar_tone}" style="width:{done:.2f}%"></i>{holes}</div>'
    )


def _done(now: Progress) -> str:
    percent, end = state.percent(now), state.left(now) or state.took(now)
    said = f"<b>{percent}</b> " if percent else ""
    ends = f' <span class="end">{end}</span>' if end else ""
    return f'<div class="row">{said}<span>{escape(state.blocks(now))}</span>{ends}</div>'


def _speed(now: Progress, rates: Rates | None) -> str:
    """The rates while it runs, else the means of its last run, if they are known."""
    each = state.rates(now) if not now.status.terminal else state.means(now, rates)
    line = plot.sparkline(rates) if rates else ""
    cells = "".join(f'<div><b>{number}</b> <span class="mute">{unit}</span></div>' for number, unit in each)
    if now.limit and not now.status.terminal:
        cells += f'<div><b>{escape(state.cut(now.limit, 20))}</b> <span class="mute">limits</span></div>'
    if not cells and not line:
        return ""
    return f'<div class="row rates" title="{escape(state.limited(now))}">{cells}{line}</div>'


def _tables(now: Progress) -> str:
    cells = "".join(f" <span>{escape(name)} <b>{rows}</b></span>" for name, rows in state.tables(now))
    return f'<div class="row tables"><span class="mute">rows</span>{cells}</div>' if cells else ""


def _note(note: Notice) -> str:
    way_out = f'<div class="mute">{escape(note.way_out)}</div>' if note.way_out else ""
    return f'<div class="note {note.tone}">{escape(note.text)}{way_out}</div>'


def card_line(now: Progress) -> str:
    """The job in one line."""
    label, _ = state.badge(now)
    said = [
        f"job {now.job_id}",
        state.cut(now.dataset, NAME_CHARS) or "?",
        label,
        state.percent(now),
        state.blocks(now),
    ]
    said += [f"{number} {unit}" for number, unit in state.rates(now)] if not now.status.terminal else []
    said += [state.limited(now), state.left(now) or state.took(now)]
    return "  ".join(each for each in said if each)


def card_text(now: Progress, notes: Sequence[Notice] = ()) -> str:
    """The card as plain text of a few lines, with a bar of characters."""
    label, _ = state.badge(now)
    lines = [f"job {now.job_id}  {state.cut(now.dataset, NAME_CHARS) or '?'}  {label}"]
    end = state.left(now) or state.took(now)
    bar = "" if now.share is None else f"{'█' * int(BAR_CELLS * now.share):░<{BAR_CELLS}}  {state.percent(now)}  "
    lines.append(f"{bar}{state.blocks(now)}{f'  {end}' if end else ''}")
    if not now.status.terminal and (speed := [f"{number} {unit}" for number, unit in state.rates(now)]):
        lines.append("  ".join([*speed, *filter(None, [state.limited(now)])]))
    if rows := state.tables(now):
        lines.append("rows  " + "  ".join(f"{name} {count}" for name, count in rows))
    if counters := state.counters(now):
        lines.append(" · ".join(counters))
    told = (*notes, *state.notices(now))
    lines += [f"! {note.text}" + (f" ({note.way_out})" if note.way_out else "") for note in told]
    return "\n".join(lines)
