"""A job's progress in words: what the card says, whatever it is drawn with (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ampd_ray.client.displays import figures
from ampd_ray.datasets.tables import TABLES
from ampd_ray.metadb.statuses import JobStatus

if TYPE_CHECKING:
    from ampd_ray.client.progress import Progress, Rates

Tone = Literal["go", "good", "warn", "bad", "calm"]

SILENT_SECS: Final = 10.0
"""A node reports every second: after so long without a word, say so."""

ERROR_CHARS: Final = 400
NAME_CHARS: Final = 60
TABLE_CHARS: Final = 40
MOST_TABLES: Final = 8


@dataclass(frozen=True)
class Notice:
    """Something that asks for attention; ``way_out`` is what to type."""

    tone: Tone
    text: str
    way_out: str = ""


def badge(now: Progress) -> tuple[str, Tone]:
    """The status in a word or two."""
    at_work = now.status is JobStatus.RUNNING
    if at_work and now.limit == "head":
        return ("following the head" if now.total is None else "waiting for the head"), "go"
    if at_work and now.phase in (None, "opening"):
        return "starting", "go"
    if at_work and now.phase == "waiting":
        return "waiting", "warn"
    if now.status is JobStatus.COMPLETED and now.holes:
        return f"complete but for {figures.plural(now.holes, 'hole')}", "warn"
    return _BADGES[now.status]


_BADGES: Final[dict[JobStatus, tuple[str, Tone]]] = {
    JobStatus.SCHEDULED: ("scheduled", "calm"),
    JobStatus.RUNNING: ("running", "go"),
    JobStatus.STOP_REQUESTED: ("stopping", "warn"),
    JobStatus.STOPPING: ("stopping", "warn"),
    JobStatus.STOPPED: ("stopped", "calm"),
    JobStatus.COMPLETED: ("complete", "good"),
    JobStatus.ERROR: ("failed, to be tried again", "warn"),
    JobStatus.FATAL: ("failed", "bad"),
    JobStatus.UNKNOWN: ("unknown", "calm"),
}


def percent(now: Progress) -> str | None:
    """How much of it is done, None if it has no end (yet); a job that is complete may lack blocks."""
    return None if now.share is None else figures.share(now.share)


def blocks(now: Progress) -> str:
    """``1,902 of 3,000 blocks``."""
    if now.status is JobStatus.SCHEDULED and not now.done:
        return f"waits for {_node(now)} to begin"
    if now.total is None:
        return figures.plural(now.done, "block")
    return f"{now.done:,} of {figures.plural(now.total, 'block')}"


def left(now: Progress) -> str | None:
    """``4 s left``; None where nobody knows."""
    return None if now.eta_secs is None or now.status.terminal else f"{figures.duration(now.eta_secs)} left"


def took(now: Progress) -> str | None:
    """How long its last run took, or takes."""
    if now.seconds is None:
        return None
    return f"{'took' if now.status.terminal else 'for'} {figures.duration(now.seconds)}"


def rates(now: Progress) -> list[tuple[str, str]]:
    """Each rate that is known: its number, and of what it is."""
    each = ((now.blocks_per_sec, "blocks/s"), (now.rows_per_sec, "rows/s"), (now.requests_per_sec, "requests/s"))
    return [(figures.number(rate), unit) for rate, unit in each if rate is not None]


def means(now: Progress, rates: Rates | None) -> list[tuple[str, str]]:
    """The same over all of its last run, of which rows and time are told as well."""
    if rates is not None and now.began is not None:
        rates = rates.since(now.began)
    if rates is None or rates.secs <= 0:
        return []
    each = ((rates.blocks, "blocks/s"), (rates.rows, "rows/s"), (rates.requests, "requests/s"))
    return [(figures.number(amount / rates.secs), f"{unit} on average") for amount, unit in each]


def limited(now: Progress) -> str:
    """What holds it back; empty where nobody knows."""
    return (
        "" if now.limit is None or now.status.terminal else f"limited by {figures.limit(cut(now.limit, TABLE_CHARS))}"
    )


def tables(now: Progress) -> list[tuple[str, str]]:
    """Rows of this run for each table, in the order of the manifest."""
    names = sorted(now.rows, key=lambda name: TABLES.index(name) if name in TABLES else len(TABLES))
    return [(cut(name, TABLE_CHARS), f"{now.rows[name]:,}") for name in names[:MOST_TABLES]]


def counters(now: Progress) -> list[str]:
    """What the run has cost so far."""
    said = [f"{figures.size(now.bytes)} written"] if now.bytes else []
    if now.rpc_requests:
        said.append(figures.plural(now.rpc_requests, "request"))
    if now.retries:
        said.append(figures.plural(now.retries, "retry", "retries"))
    return said


def notices(now: Progress) -> list[Notice]:
    """What asks for attention, the worst first."""
    found = []
    if now.error and now.status in (JobStatus.ERROR, JobStatus.FATAL):
        again = f"job.retry() or: ampd jobs retry {now.job_id}"
        if now.status is JobStatus.FATAL:
            found.append(Notice("bad", cut(now.error, ERROR_CHARS), f"mend it, then {again}"))
        else:
            found.append(
                Notice("warn", cut(now.error, ERROR_CHARS), f"it is tried again by itself; to have it at once {again}")
            )
    if not now.status.terminal and now.age_secs is not None and now.age_secs > SILENT_SECS:
        silent = f"no word from {_node(now)} for {figures.duration(now.age_secs)}"
        found.append(Notice("warn", silent, "see: client.workers() or: ampd workers list"))
    if now.holes:
        missing = f"{figures.plural(now.holes, 'block')} that no provider delivers correctly, set aside"
        again = " job.retry(quarantined=True) asks again" if now.status.terminal else ""
        found.append(Notice("warn", missing, f"job.holes() says why{';' + again if again else ''}"))
    if now.status is JobStatus.STOPPED and now.total is not None and now.done < now.total:
        found.append(
            Notice("calm", "what is complete is committed", f"to go on: job.retry() or: ampd jobs retry {now.job_id}")
        )
    return found


def _node(now: Progress) -> str:
    return f"node {cut(now.node_id, NAME_CHARS)}" if now.node_id else "a node"


def cut(text: str, most: int) -> str:
    """A text of others in one line of at most ``most`` characters that can be printed."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= most else text[: most - 2] + " …"
