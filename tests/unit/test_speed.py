"""Rates over the last seconds, and samples whose number stays small however long a job runs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.materialize.speed import SAMPLE_SECS, SAMPLES_PER_E_FOLD, WINDOW_SECS, Counts, Rates, Sampler, Window

STEPS = st.lists(
    st.tuples(
        st.integers(0, 30_000).map(lambda ms: ms / 1000),
        st.integers(0, 10**6),
        st.integers(0, 10**9),
        st.integers(0, 10**6),
    ),
    max_size=60,
)


def test_the_first_look_knows_no_rate() -> None:
    assert Window().look(7.0, Counts(5, 5, 5)) == Rates(0.0, 0.0, 0.0)


@settings(deadline=None)
@given(STEPS)
def test_a_rate_is_what_was_done_in_the_last_seconds_and_never_negative(
    steps: list[tuple[float, int, int, int]],
) -> None:
    window, now, counts = Window(), 0.0, Counts()
    looks = [(now, counts)]
    window.look(now, counts)
    for secs, *done in steps:
        now, counts = now + secs, Counts(*(sum(pair) for pair in zip(counts, done, strict=True)))
        looks.append((now, counts))
        rates = window.look(now, counts)
        assert all(math.isfinite(rate) and rate >= 0 for rate in rates)
        old = [look for look in looks[:-1] if now - look[0] >= WINDOW_SECS] or looks[:1]
        then, before = old[-1]
        if now > then:
            assert rates.blocks == pytest.approx((counts.blocks - before.blocks) / (now - then))


def samples(run_secs: list[float], every: float) -> list[float]:
    """The lengths of the samples of runs, one after the other, that are looked at ``every`` so many seconds."""
    taken: list[float] = []
    before = 0.0
    for secs in run_secs:
        sampler, now = Sampler(0.0), 0.0
        while now < secs:
            now += every
            sample = sampler.look(now, Counts(1), "rpc")
            if sampler.due(sample, before):
                taken.append(sample.secs)
                sampler.took(sample)
        before += now
    return taken


@settings(deadline=None)
@given(st.lists(st.floats(1.0, 4_000.0), min_size=1, max_size=4), st.floats(1.0, 3.0))
def test_the_number_of_samples_grows_with_the_logarithm_of_the_time(runs: list[float], every: float) -> None:
    taken = samples(runs, every)
    total = sum(runs) + every * len(runs)
    linear = SAMPLE_SECS * SAMPLES_PER_E_FOLD
    assert len(taken) <= min(total, linear) / SAMPLE_SECS + SAMPLES_PER_E_FOLD * max(0.0, math.log(total / linear)) + 1
    assert all(secs >= SAMPLE_SECS for secs in taken)


def test_a_day_is_a_thousand_samples_and_a_short_job_one_for_each_five_seconds() -> None:
    assert 1000 < len(samples([86_400.0], 1.0)) < 1200
    assert samples([100.0], 1.0) == [5.0] * 20
