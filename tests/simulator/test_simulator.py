"""Jobs change hands in thousands of simulated storms, each block is there once; without any one guard it would not be.

``AMPD_SIMULATOR_SEEDS`` is the number of seeds; ``python -m tests.simulator`` runs as many as one likes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.simulator.batch import Batch, server
from tests.simulator.faults import COUNTED
from tests.simulator.mutants import MUTANTS

MUTANT_SEEDS = 300  # within which a missing guard must be missed
SEEDS = int(os.environ.get("AMPD_SIMULATOR_SEEDS", "400"))  # more than that; `make simulate` runs 20,000
RARE = frozenset({"overlaps"})  # with all guards on, what would be refused for this is refused before
ENOUGH = 200  # seeds in which every kind of fault fires

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    with server() as url, Batch(url, processes=2) as running:
        yield running


def test_no_storm_loses_a_block_or_writes_it_twice(batch: Batch) -> None:
    totals = batch.run(range(1, SEEDS + 1))
    assert [(result.seed, result.violation) for result in totals.violations] == []
    assert totals.seeds == SEEDS
    if SEEDS >= ENOUGH:
        assert [kind for kind in COUNTED if kind not in RARE and not totals.counts[kind]] == []


def test_a_seed_always_does_the_same(batch: Batch) -> None:
    """In another order and in other processes."""
    seeds = range(1, 41)
    assert batch.run(seeds).digests == batch.run(reversed(seeds)).digests


@pytest.mark.parametrize("name", MUTANTS)
def test_a_missing_guard_is_missed(batch: Batch, name: str) -> None:
    """By what it shows, though it may also be that a job does not come to its end."""
    totals = batch.run(range(1, MUTANT_SEEDS + 1), mutant=name)
    found = [result.violation for result in totals.violations if result.violation is not None]
    assert [violation for violation in found if violation[0] in MUTANTS[name].shows], f"{totals.seeds} seeds: {found}"
    assert not [violation for violation in found if violation[0] not in (*MUTANTS[name].shows, "end")], found
