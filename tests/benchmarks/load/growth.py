"""A chain that grows by one block at a time, and what its clients are told of it when.

All times are seconds of ``time.monotonic``, which on Linux is one clock for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from tests.benchmarks.load.blocks import Chain


@dataclass
class Timeline:
    """When each block from ``first`` on appeared, and when a client was first told of it or a later one as the head.

    ``asked``: when full blocks were asked for, one time for each call.
    """

    first: int
    appeared: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)

    def note_told(self, head: int) -> None:
        """A client hears that ``head`` is the newest block."""
        self.told += [time.monotonic()] * (head + 1 - self.first - len(self.told))

    def note_asked(self) -> None:
        """A client asks for a full block."""
        self.asked.append(time.monotonic())


class Growth:
    """Lets the blocks of ``chain`` appear that are not there yet, one each ``every_secs``."""

    def __init__(self, chain: Chain, every_secs: float) -> None:
        self.chain = chain
        self.timeline = Timeline(chain.length)
        self._every_secs = every_secs

    def grow(self, blocks: int) -> int:
        """Begin with ``blocks`` more; the number of the last of them. Those asked for before have to be there."""
        last = self.chain.length - 1 + blocks
        assert last < self.chain.total, f"the chain ends at block {self.chain.total - 1}"
        loop = asyncio.get_running_loop()
        for number in range(1, blocks + 1):
            loop.call_later(number * self._every_secs, self._appear)
        return last

    def tell_head(self) -> int:
        """The number of the newest block, -1 while there is none."""
        head = self.chain.length - 1
        self.timeline.note_told(head)
        return head

    def _appear(self) -> None:
        self.chain.length += 1
        self.timeline.appeared.append(time.monotonic())
