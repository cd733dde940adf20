"""The canonical chain and what is missing: every vector of ``spec/data.md`` 6.2 in every order, and properties."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise, permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.chain.ranges import BlockRange, Span, intersect, merge, subtract, union
from ampd_ray.chain.segments import Chain, Segment, canonical_flags, missing, resolve

FILE = re.compile(r"(\d+)-(\d+)/(\d)(\d)(?:@(\d+))?")


def digest(number: int, branch: int) -> bytes:
    return (number + 1).to_bytes(16, "big") + branch.to_bytes(16, "big") if number >= 0 else bytes(32)


def segment(file_id: int, start: int, end: int, before: int, branch: int, created: int = 0) -> Segment:
    return Segment(file_id, BlockRange("net", start, end, digest(end, branch), digest(start - 1, before)), created)


def files(text: str) -> list[Segment]:
    """Read the notation of the specification: ``start-end/pq@created``."""
    rows = [[int(part or 0) for part in match.groups()] for match in FILE.finditer(text)]
    return [segment(i, start, end, p, q, created) for i, (start, end, p, q, created) in enumerate(rows)]


def spans(text: str) -> list[Span]:
    return [Span(*map(int, part.split("-"))) for part in text.split()]


MISSING = {
    "M1": ("", "0-10", "0-10"),
    "M2": ("0-10", "0-10", ""),
    "M3": ("0-5", "10-15", "10-15"),
    "M4": ("3-7", "0-10", "0-2 8-10"),
    "M5": ("0-15", "5-10", ""),
    "M6": ("5-15", "0-10", "0-4"),
    "M7": ("0-5", "0-10", "6-10"),
    "M8": ("0-5 8-8", "0-10", "6-7 9-10"),
    "M9": ("1-2 4-4 8-9", "0-10", "0-0 3-3 5-7 10-10"),
    "M10": ("0-8 2-4", "0-10", "9-10"),
    "M11": ("0-3 5-7", "0-10", "4-4 8-10"),
    "M12": ("0-3 2-5 4-7", "0-10", "0-3 8-10"),
    "M13": ("0-2 1-3", "0-3", "0-0"),
    "M14": ("0-2 2-3", "0-2", "0-1"),
    "M15": ("0-3 5-7 2-12", "0-15", "0-1 13-15"),
    "M16": ("0-5 3-8", "0-7", "0-2"),
    "M17": ("0-20 10-30", "12-18", ""),
    "M18": ("0-5 3-8", "2-7", "2-2"),
}

RESOLVE = {
    "C1": ("0-2/00", "0-2/00", ""),
    "C2": ("0-1/00 2-3/00 4-5/00", "0-1/00 2-3/00 4-5/00", ""),
    "C3": ("5-7/00 0-2/00 10-12/00", "0-2/00", ""),
    "C4": ("0-2/00 3-5/00 4-5/00 4-6/00 3-6/00@1", "0-2/00 3-6/00@1", ""),
    "C5": ("0-2/00 3-5/00 3-6/10", "0-2/00 3-5/00", "3-6/10"),
    "C6": ("0-2/00 3-5/00 3-5/11 6-8/10 6-8/00", "0-2/00 3-5/00 6-8/00", ""),
    "C7": ("0-2/00 3-5/00 3-5/11 6-9/10 6-8/00", "0-2/00 3-5/00 6-8/00", "3-5/11 6-9/10"),
    "C8": ("0-2/00 3-5/01@1 3-5/00", "0-2/00 3-5/01@1", ""),
    "C9": ("0-3/00 4-6/11@1 4-8/00@2 7-9/11@3 4-9/22@4", "0-3/00 4-8/00@2", "4-9/22@4"),
    "C10": ("0-3/00 4-5/11@1 6-7/11@2 8-9/11@3", "0-3/00", "4-5/11@1 6-7/11@2 8-9/11@3"),
    "C11": ("0-5/00 6-10/00@2 3-5/00 6-10/01@1 11-15/11@1", "0-5/00 6-10/00@2", "6-10/01@1 11-15/11@1"),
}

DYNAMICS = {
    "R1": (
        "3-5/00 6-8/00 9-11/00 12-14/00 9-11/11 12-14/11 15-17/11",
        "3-5/00 6-8/00 9-11/00 12-14/00",
        "9-11/11 12-14/11 15-17/11",
        "0-20",
        "0-2 6-8 18-20",
    ),
    "R2": ("0-9/00@1 10-10/00@2 11-11/11@3", "0-9/00@1 10-10/00@2", "11-11/11@3", "0-11", "10-10"),
    "R3": (
        "0-9/00@1 10-10/00@2 11-11/11@3 10-10/01@4",
        "0-9/00@1 10-10/01@4 11-11/11@3",
        "",
        "0-11",
        "",
    ),
    "R4": (
        "0-8/00@1 9-9/00@1 10-10/00@2 11-11/11@3 10-10/11@4",
        "0-8/00@1 9-9/00@1 10-10/00@2",
        "10-10/11@4 11-11/11@3",
        "0-11",
        "9-9",
    ),
    "R5": ("0-999/00@5 1000-1000/11@6", "0-999/00@5", "1000-1000/11@6", "0-1000", "0-999"),
    "R6": (
        "0-989/00@5 990-999/00@5 1000-1000/11@6",
        "0-989/00@5 990-999/00@5",
        "1000-1000/11@6",
        "0-1000",
        "990-999",
    ),
    "R7": ("0-999/00@5 0-998/00@6 999-1000/01@6", "0-998/00@6 999-1000/01@6", "", "0-1000", ""),
    "R8": ("0-999/00@5 0-998/00@6 999-999/01@6", "0-998/00@6 999-999/01@6", "", "0-999", ""),
    "R9": ("0-999/00@5 0-998/00@6", "0-998/00@6", "0-999/00@5", "0-999", "0-0"),
    "R10": ("0-999/00@5 999-1000/01@6", "0-999/00@5", "999-1000/01@6", "0-1000", "0-998"),
    "R11": (
        "0-9/00@1 10-12/00@2 10-10/00@3 11-11/01@3",
        "0-9/00@1 10-10/00@3 11-11/01@3",
        "10-12/00@2",
        "0-12",
        "0-9",
    ),
    "R12": (
        "0-9/00@1 10-12/00@2 10-10/00@3 11-12/01@3",
        "0-9/00@1 10-10/00@3 11-12/01@3",
        "",
        "0-12",
        "",
    ),
    "R13": ("0-9/00@1 10-10/00@3 11-11/01@3", "0-9/00@1 10-10/00@3 11-11/01@3", "", "0-11", ""),
    "R14": ("0-9/00@5 0-9/01@4 10-10/11@5", "0-9/00@5", "0-9/01@4 10-10/11@5", "0-10", "0-0"),
    "R15": ("0-9/00@1 10-10/00@2 10-10/01@3", "0-9/00@1 10-10/01@3", "", "0-10", ""),
    "R16": (
        "0-4/00@1 5-9/00@1 5-9/01@3 10-10/11@3 0-9/00@4",
        "0-9/00@4",
        "0-4/00@1 5-9/01@3 10-10/11@3",
        "0-10",
        "0-0",
    ),
    "R17": ("0-4/00@1 5-9/00@2 10-12/00@3 0-9/00@4", "0-9/00@4 10-12/00@3", "", "0-12", ""),
    "R18": ("0-4/00@1 10-14/00@1", "0-4/00@1", "", "0-14", "5-9"),
    "R19": ("0-3/00@1 2-9/00@9", "0-3/00@1", "2-9/00@9", "0-9", "0-1"),
    "R20": (
        "0-99/00@1 100-199/00@2 200-209/00@3 210-210/11@4 100-149/00@5 150-209/01@5",
        "0-99/00@1 100-149/00@5 150-209/01@5 210-210/11@4",
        "",
        "0-210",
        "",
    ),
}


def bare(segments: Iterable[Segment] | None) -> list[tuple[BlockRange, int]] | None:
    """Without the ids, which the specification's notation does not give."""
    return None if segments is None else [(s.range, s.created_ns) for s in segments]


@pytest.mark.parametrize("name", MISSING)
def test_missing_vectors_in_every_order(name: str) -> None:
    held, desired, expected = MISSING[name]
    unlinked = [segment(k, span.start, span.end, k, k) for k, span in enumerate(spans(held))]
    for order in permutations(unlinked):
        assert missing(order, spans(desired)[0]) == spans(expected)


def test_c0_no_file_is_no_chain() -> None:
    assert resolve([]) is None


@pytest.mark.parametrize("name", [*RESOLVE, *DYNAMICS])
def test_resolve_vectors_in_every_order(name: str) -> None:
    given_files, canonical, fork, *_ = {**RESOLVE, **DYNAMICS}[name]
    expected = (bare(files(canonical)), bare(files(fork)) if fork else None)
    for order in permutations(files(given_files)):
        chain = resolve(order)
        assert chain is not None
        assert (bare(chain.canonical), bare(chain.fork)) == expected


@pytest.mark.parametrize("name", DYNAMICS)
def test_missing_of_reorg_repair_and_compaction_in_every_order(name: str) -> None:
    given_files, _, _, desired, expected = DYNAMICS[name]
    for order in permutations(files(given_files)):
        assert missing(order, spans(desired)[0]) == spans(expected)


def test_r21_a_linked_number_gap_is_canonical_but_missing() -> None:
    low = segment(0, 0, 4, 0, 0)
    high = Segment(1, BlockRange("net", 7, 9, digest(9, 0), low.range.hash), 0)
    for order in permutations([low, high]):
        assert resolve(order) == Chain((low, high))
        assert missing(order, Span(0, 9)) == [Span(5, 6)]


# -- properties ---------------------------------------------------------------------------------------------------

any_files = st.lists(
    st.tuples(st.integers(0, 14), st.integers(0, 6), st.integers(0, 2), st.integers(0, 2), st.integers(0, 5)),
    max_size=10,
).map(lambda rows: [segment(i, a, a + more, p, q, t) for i, (a, more, p, q, t) in enumerate(rows)])


# Hashes that say nothing of their block's number: only both conditions of `follows` together keep the order then.
confusing_files = any_files.map(
    lambda held: [
        replace(s, range=replace(s.range, hash=s.range.hash[16:], prev_hash=s.range.prev_hash[16:])) for s in held
    ]
)


def plain_resolve(held: list[Segment]) -> tuple[list[Segment], list[Segment] | None] | None:
    """The pseudo-code of ``spec/data.md`` 6.1, word for word: slow and obviously the same."""
    if not held:
        return None
    order = sorted(held, key=lambda f: (f.range.start, -f.created_ns, -f.file_id))
    canon = [order[0]]
    others: list[Segment] = []
    for f in order[1:]:
        (canon if f.follows(canon[-1]) else others).append(f)
    tip = canon[-1].range.end
    owned = {(c.range.end, c.range.hash) for c in canon}
    others.sort(key=lambda f: (f.range.end, f.created_ns, f.file_id))
    for i in range(len(others) - 1, -1, -1):
        if others[i].range.end <= tip:
            return canon, None
        path = [others[i]]
        for g in reversed(others[:i]):
            if path[0].follows(g):
                if (g.range.end, g.range.hash) in owned:
                    break
                path.insert(0, g)
        if path[0].range.start <= tip + 1:
            return canon, path
    return canon, None


@settings(max_examples=400)
@given(any_files | confusing_files, st.randoms(use_true_random=False))
def test_the_fast_resolve_equals_the_plain_one_in_any_order(held: list[Segment], random: Random) -> None:
    plain = plain_resolve(held)
    random.shuffle(held)
    chain = resolve(held)
    fast = None if chain is None else (list(chain.canonical), None if chain.fork is None else list(chain.fork))
    assert fast == plain


@given(any_files | confusing_files)
def test_the_canonical_chain_is_hash_linked(held: list[Segment]) -> None:
    if chain := resolve(held):
        for linked in (chain.canonical, chain.fork or ()):
            assert all(b.follows(a) for a, b in pairwise(linked))


@given(any_files, st.integers(0, 10), st.integers(0, 15))
def test_every_wanted_block_is_covered_or_missing(held: list[Segment], low: int, more: int) -> None:
    wanted = Span(low, low + more)
    gaps = missing(held, wanted)
    assert union(gaps, intersect((s.range.span for s in held), wanted)) == [wanted]
    assert gaps == merge(gaps)
    assert subtract(gaps, [wanted]) == []


@given(any_files)
def test_flagged_segments_never_overlap_and_hold_the_chain(held: list[Segment]) -> None:
    flags = canonical_flags(held)
    flagged = [s for s in held if flags[s.file_id]]
    assert set(flags) == {s.file_id for s in held}
    assert sum(len(s.range.span) for s in flagged) == sum(len(span) for span in merge(s.range.span for s in flagged))
    chain = resolve(held)
    assert set(chain.canonical if chain else ()) <= set(flagged)
    for other in held:  # and no file could be added
        assert flags[other.file_id] or intersect((s.range.span for s in flagged), other.range.span)


def test_a_long_history_resolves_quickly() -> None:
    held = [segment(i, i, i, 0, 0, i) for i in range(20_000)]
    held += [segment(20_000 + i, i, i, 1, 1, i) for i in range(10_000, 25_000)]
    chain = resolve(held)
    assert chain is not None
    assert chain.fork is not None
    assert (len(chain.canonical), len(chain.fork)) == (20_000, 15_000)
    assert missing(held, Span(0, 25_000)) == [Span(9_999, 9_999), Span(25_000, 25_000)]
