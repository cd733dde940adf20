"""Numbers, times and states as people say them (pure)."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

LIMITS: Final = {
    "rpc": "the RPC provider",
    "cpu": "CPUs for decoding",
    "writer": "writing files",
    "store": "the object store",
    "db": "the database",
    "head": "the head of the chain",
    "lease": "its leases",
}
SPARKS: Final = "▁▂▃▄▅▆▇█"


def limit(name: str) -> str:
    """What ``limiting_factor`` means."""
    return LIMITS.get(name, name)


def number(value: float) -> str:
    """A count or a rate: ``1,234``, ``12.3``, ``0.25``; never NaN or infinity."""
    if not math.isfinite(value):
        return "?"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2g}" if abs(value) >= 0.01 else "0"


def brief(value: float) -> str:
    """The same in four figures or less: ``1.2 M``, for axes and where there is little room."""
    if not math.isfinite(value):
        return "?"
    for bound, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= bound:
            return f"{value / bound:.3g}{unit}"
    return f"{value:.3g}"


def size(nbytes: float) -> str:
    """Bytes, in powers of 1,000."""
    if nbytes < 1000:
        return f"{nbytes:.0f} B"
    power = min(4, int(math.log10(nbytes) / 3))
    return f"{nbytes / 1000**power:,.1f} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def duration(secs: float) -> str:
    """``4 s``, ``3 min 07 s``, ``5 h 20 min``, ``3 d 4 h``; from a year on it is "over a year"."""
    if not math.isfinite(secs) or secs >= 365 * 86_400:
        return "over a year"
    whole = max(0, round(secs))
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def share(part: float) -> str:
    """A share of 0 to 1 in percent; nothing short of the whole is called 100 %."""
    percent = math.floor(1000 * min(1.0, max(0.0, part))) / 10
    return "100 %" if percent == 100 else f"{percent:.1f} %"


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 hole``, ``1,234 holes``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def moment(at: datetime, step_secs: float = 60.0) -> str:
    """A time of day in UTC, or a date where steps are as long as days."""
    utc = at.astimezone(UTC)
    return utc.strftime("%b %-d" if step_secs >= 86_400 else "%H:%M" if step_secs >= 60 else "%H:%M:%S")


def sparks(values: list[float | None]) -> str:
    """A character for each value, of 0 to the greatest; a space where there is none."""
    most = max((value for value in values if value is not None), default=0.0)
    scale = (len(SPARKS) - 1) / most if most > 1e-9 else 0.0
    return "".join(" " if value is None else SPARKS[round(value * scale)] for value in values)
