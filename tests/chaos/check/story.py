"""I10 to I12: what the one who injected the faults has measured, judged by who did not inject them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict


class Story(TypedDict):
    """Of one schedule. ``injected``: how often each fault really happened, by its name.

    ``recovered_secs``: from the end of the last fault to the first commit of a block that is younger; None: never.
    ``calm``: the highest block of the job that nobody touched, and how many events it had, before and after the fault
    that was another job's only.
    """

    seed: int
    injected: dict[str, int]
    recovered_secs: float | None
    within_secs: float
    calm: list[tuple[int, int]]
    late: list[str]


def judge(story: Story) -> Iterator[str]:
    """What is wrong with it."""
    secs = story["recovered_secs"]
    if secs is None or secs > story["within_secs"]:
        yield f"I10 progress resumed after {secs} s, at most {story['within_secs']:g}"
    yield from (f"I10 {what}" for what in story["late"])
    if len(story["calm"]) != 2:
        yield "I11 nobody looked at the other job"
    else:
        (block, events), (block_after, events_after) = story["calm"]
        if block_after <= block or events_after != events:
            yield f"I11 another job's fault: from block {block} to {block_after}, events {events} to {events_after}"
    if not story["injected"]:
        yield "I12 nothing was injected"
    yield from (f"I12 {name} never fired" for name, times in story["injected"].items() if times < 1)
