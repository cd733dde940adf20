"""The head of the chain as a job sees it (``spec/data.md`` 4.2, 4.5): polled, and patient with its provider.

A provider that is away for a while does not end a job that follows the head; one that refuses does, after some tries
(``spec/metadata-db.md`` 5.7, ``LATEST_BLOCK``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, Protocol

from ampd_ray.errors import AmpdError, BlockUnavailable, DataFault, Handling
from ampd_ray.materialize.patience import Complaints

Tag = Literal["latest", "finalized"]

MAX_REFUSALS = 5  # errors in a row that time alone does not cure
MAX_NUMBER = 1 << 53  # no chain gets there, and beyond it numbers are not exact in everybody's JSON
STRIDE_BLOCKS = 1_000  # no head moves farther between two polls in a row


class Head(Protocol):
    """The newest block, or the newest final one."""

    @property
    def number(self) -> int:
        """Its number."""

    @property
    def hash(self) -> bytes:
        """Its hash, 32 bytes."""


class HeadSource(Protocol):
    """A provider as the coordinator uses it: it asks for heads only."""

    @property
    def chain(self) -> int | None:
        """The id of the chain that it serves; None before it is started."""

    async def start(self) -> None:
        """Open it and compare its chain id."""

    async def head(self, tag: Tag) -> Head:
        """The block behind ``tag``; raises ``BlockUnavailable`` while there is none, or another ``ProviderError``."""

    async def close(self) -> None:
        """Close its connections."""


class Heads:
    """The head behind ``tag``, asked for again and again. ``waits_for`` says why there is none just now."""

    def __init__(self, source: HeadSource, tag: Tag, clock: Callable[[], float] = time.monotonic):
        self.waits_for = "head"
        self._source = source
        self._tag: Tag = tag
        self._complaints = Complaints(f"asking for the {tag} block", clock)
        self._finality = Complaints("asking what is final", clock)
        self._refusals = 0
        self._last: tuple[int, bytes] | None = None
        self._seen_twice = False

    async def poll(self) -> Head | None:
        """The head of now; None while the chain has none, or the provider is away or contradicts itself.

        One answer alone may be absurd, and ends are kept and blocks set aside by the head: far from the last one, as
        the first is, it is believed when the next is near it. That is asked for at once.

        Raises the error of a provider that refuses for good, or several times in a row.
        """
        for _ in range(2):
            before, head = self._last, await self._ask()
            if head is None:
                return None
            if before is not None and abs(head.number - before[0]) <= STRIDE_BLOCKS:
                self._complaints.settle()
                self.waits_for = "head"
                return head
        self.waits_for = "rpc"
        self._complaints.add(DataFault(f"the {self._tag} block is {before and before[0]}, then {self.number}"))
        return None

    async def _ask(self) -> Head | None:
        try:
            head = await self._source.head(self._tag)
            if head.number >= MAX_NUMBER:
                raise DataFault(f"the {self._tag} block is said to be {head.number}, which is no block's number")
        except BlockUnavailable:
            return None  # an empty chain, or nothing final yet
        except AmpdError as error:
            self._bear(error)
            return None
        self._refusals = 0
        seen = (head.number, head.hash)
        self._seen_twice, self._last = seen == self._last, seen
        return head

    @property
    def is_steady(self) -> bool:
        """True if two answers in a row named the same block: one alone may be that of a lagging node."""
        return self._seen_twice

    @property
    def number(self) -> int:
        """The number of the last head that was seen, -1 before the first."""
        return -1 if self._last is None else self._last[0]

    async def finalized(self) -> int | None:
        """The number of the newest final block; None where the provider does not tell."""
        try:
            return (await self._source.head("finalized")).number
        except AmpdError as error:
            self._finality.add(error)
            return None

    def _bear(self, error: AmpdError) -> None:
        if error.handling is Handling.BOUNDED:
            self._refusals += 1
        elif error.handling is not Handling.TRANSIENT:
            raise error
        if self._refusals >= MAX_REFUSALS:
            raise error
        self.waits_for = "rpc"
        self._complaints.add(error)
