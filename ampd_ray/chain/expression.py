"""Block ranges as people write them: cryo's grammar, in which the end is excluded.

``15M:16M`` · ``15M:+1000`` (1,000 blocks) · ``-1000:`` (the last 1,000) · ``-1000:16M`` (the 1,000 before 16M) ·
``18M:latest`` or ``18M:`` (up to the head, which is included) · ``:700`` (from 0) · ``18M`` (one block). Numbers take
``_``, decimals and K, M, B: ``18_000_000``, ``15.5M``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import BeyondHead, InvalidRange

EXAMPLES = "15M:16M, 15M:+1000, -1000: or 18M:latest (the end is excluded)"
MAX_BLOCK = 2**63 - 1
MAX_TEXT = 100  # characters

_NUMBER = re.compile(r"(\d[\d_]*(?:\.\d[\d_]*)?)([kmb]?)", re.IGNORECASE | re.ASCII)
_SCALE = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True, slots=True)
class RangeExpr:
    """A parsed range: ``start`` to ``end`` (excluded; None = the head), or the ``last`` so many blocks."""

    text: str
    start: int | None
    end: int | None
    last: int | None = None

    @property
    def is_relative(self) -> bool:
        """True if the blocks depend on the head at the time of asking."""
        return self.end is None

    def resolve(self, head: int) -> Span:
        """The blocks meant while ``head`` is the highest block; BeyondHead if the chain does not have them yet."""
        end = head if self.end is None else self.end - 1
        start = head + 1 - self.last if self.last is not None else self.start
        assert start is not None
        if start < 0:
            raise BeyondHead(
                f"block range {self.text!r}: it asks for {self.last:,} blocks and the chain has {head + 1:,}. "
                f"Write 0:{head + 1}.",
                range=self.text,
            )
        if start > head:
            raise BeyondHead(
                f"block range {self.text!r}: block {start} is beyond the head: the chain ends at block {head}. Wait "
                "until it gets there, or ask for less.",
                range=self.text,
            )
        if end > head:
            raise BeyondHead(
                f"block range {self.text!r}: block {end} is beyond the head, {head}. Write {start}:latest.",
                range=self.text,
            )
        return Span(start, end)

    def reached(self, last: int | None) -> Span | None:
        """The blocks meant of a dataset whose last block is ``last`` (None: it has none), be they there or not.

        What counts from the end counts from ``last``, as far back as there are blocks. None if that leaves nothing.
        """
        if self.end is not None:
            assert self.start is not None
            return Span(self.start, self.end - 1)
        if last is None:
            return None
        start = max(0, last + 1 - self.last) if self.last is not None else self.start or 0
        return Span(start, last) if start <= last else None

    def __str__(self) -> str:
        return self.text


def parse_range(text: str) -> RangeExpr:
    """Parse a range; InvalidRange names the text, what is wrong with it, and what to write instead."""
    text = text.strip()
    if len(text) > MAX_TEXT:
        raise _invalid(text[:MAX_TEXT] + "…", "it is too long")
    left, colon, right = (part.strip() for part in text.partition(":"))
    if not colon and _NUMBER.fullmatch(left):
        return _from_to(text, _number(text, left), _number(text, left) + 1)
    if not colon or not (left or right) or ":" in right:
        raise _invalid(text, "it is not START:END")
    end = None if right.lower() in ("", "latest") else _number(text, right.removeprefix("+"))
    if left.startswith("-"):
        return _backwards(text, _number(text, left[1:]), end, right)
    start = _number(text, left) if left else 0
    if end is not None and right.startswith("+"):
        end += start
    return _from_to(text, start, end)


def _from_to(text: str, start: int, end: int | None) -> RangeExpr:
    if end is not None and end <= start:
        raise _empty(text, start, end)
    if end is not None and end > MAX_BLOCK:
        raise _invalid(text, f"block {end - 1} is above the highest possible block number")
    return RangeExpr(text, start, end)


def _backwards(text: str, count: int, end: int | None, right: str) -> RangeExpr:
    """``-count:end``: the blocks before ``end``, or before and including the head."""
    if right.startswith("+"):
        raise _invalid(text, "it counts backwards and forwards at once")
    if count == 0:
        raise _invalid(text, "it holds no block")
    if end is None:
        return RangeExpr(text, None, None, count)
    if count > end:
        raise _invalid(text, f"there are no {count:,} blocks before block {end}", f"Write 0:{end}" if end else "")
    return RangeExpr(text, end - count, end)


def _number(text: str, part: str) -> int:
    match = _NUMBER.fullmatch(part)
    if match is None:
        raise _invalid(text, f"{part!r} is not a block number" if part else "a block number is missing")
    value = Fraction(match[1].replace("_", "")) * _SCALE[match[2].upper()]
    if value > MAX_BLOCK:
        raise _invalid(text, f"{part} is above the highest possible block number")
    if value.denominator != 1:
        raise _invalid(text, f"{part} is not a whole number of blocks")
    return int(value)


def _empty(text: str, start: int, end: int) -> InvalidRange:
    if end == start:
        return _invalid(
            text, "it holds no block, since the end is excluded", f"Write {start}:{start + 1} for one block"
        )
    return _invalid(text, f"the end {end} lies before the start {start}", f"Write {end}:{start}")


def _invalid(text: str, why: str, instead: str = "") -> InvalidRange:
    return InvalidRange(f"block range {text!r}: {why}. {instead or f'Write for example {EXAMPLES}'}.", range=text)
