"""The limiter keeps to every bound, adapts, and never freezes."""

import asyncio
from contextlib import suppress

import pytest

from ampd_ray.providers.limits import MAX_IN_FLIGHT, START_IN_FLIGHT, Limiter, Timing
from ampd_ray.providers.needed import FORGET_SECS
from tests.fakes.rpc_time import FakeTime


async def admitted(limiter: Limiter, times: int) -> None:
    for _ in range(times):
        await limiter.acquire()
        limiter.release()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_minutes_tokens_may_go_at_once_then_they_refill_evenly() -> None:
    time = FakeTime()
    limiter = Limiter(60, 100, time.timing)
    await admitted(limiter, 60)
    assert time.now == 1000.0
    await admitted(limiter, 10)
    assert abs(time.now - 1010.0) < 1e-6


async def test_no_more_are_in_flight_than_allowed_and_the_next_in_line_goes_first() -> None:
    limiter = Limiter(None, 2, FakeTime().timing)
    await limiter.acquire()
    await limiter.acquire()
    order: list[str] = []

    async def ask(name: str) -> None:
        await limiter.acquire()
        order.append(name)

    waiting = [asyncio.create_task(ask(name)) for name in "abc"]
    await settle()
    assert order == []
    limiter.release()
    await settle()
    assert order == ["a"]
    limiter.release()
    limiter.release()
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c"]


async def test_zero_concurrent_requests_means_one() -> None:
    assert Limiter(None, 0, FakeTime().timing).allowed == 1


async def answers(limiter: Limiter, time: FakeTime, times: int, latency: float, per_second: float) -> None:
    """So many answers, each so long after its request, and no more of them than a provider or a process can do."""
    for _ in range(times):
        admitted_at = time.now
        limiter.succeeded(admitted_at - max(0.0, latency - 1 / per_second))
        time.now += max(1 / per_second, latency / limiter.allowed)


@pytest.mark.parametrize(
    ("latency", "fewest", "most"),
    [(0.001, 8, 12), (0.05, 30, 110), (0.2, 120, MAX_IN_FLIGHT)],
)
async def test_as_many_are_in_flight_as_the_latency_needs(latency: float, fewest: int, most: int) -> None:
    """Twice what 600 answers a second need, whatever it was before."""
    for before in (0.001, 1.0):
        time = FakeTime()
        limiter = Limiter(None, 1024, time.timing)
        assert limiter.allowed == START_IN_FLIGHT
        await answers(limiter, time, 3000, before, per_second=600)
        time.now += 2 * FORGET_SECS
        await answers(limiter, time, 30_000, latency, per_second=600)
        assert fewest <= limiter.allowed <= most


async def test_one_wave_of_complaints_halves_once_and_growth_is_slow_afterwards() -> None:
    time = FakeTime()
    limiter = Limiter(None, 1024, time.timing)
    wave = [await limiter.acquire() for _ in range(8)]
    time.now += 1
    for at in wave:
        limiter.release()
        limiter.slow_down(at)
    assert limiter.allowed == 4
    for _ in range(4):
        limiter.succeeded(time.now - 1)
    assert limiter.allowed == 4
    limiter.succeeded(time.now - 1)
    assert limiter.allowed == 5


async def test_a_pause_that_the_provider_asks_for_holds_everyone_back() -> None:
    time = FakeTime()
    limiter = Limiter(None, 8, time.timing)
    limiter.slow_down(await limiter.acquire(), retry_after=12)
    await admitted(limiter, 3)
    assert time.now == 1012.0


async def test_an_hours_pause_is_a_minute() -> None:
    time = FakeTime()
    limiter = Limiter(None, 8, time.timing)
    limiter.slow_down(await limiter.acquire(), retry_after=3600)
    await admitted(limiter, 1)
    assert time.now == 1060.0


async def test_at_one_in_flight_complaints_space_requests_out_and_answers_close_the_gap() -> None:
    time = FakeTime()
    limiter = Limiter(None, 1, time.timing)
    for _ in range(10):
        at = await limiter.acquire()
        limiter.release()
        time.now += 0.01
        limiter.slow_down(at)
    assert max(time.slept) <= 1.0
    for _ in range(50):
        limiter.succeeded(time.now - 1)
    await admitted(limiter, 1)
    time.slept.clear()
    await admitted(limiter, 20)
    assert time.slept == []


async def test_it_does_not_freeze_when_its_limit_is_cut_under_load() -> None:
    time = FakeTime()
    limiter = Limiter(None, 32, time.timing)
    done = 0

    async def work(i: int) -> None:
        nonlocal done
        at = await limiter.acquire()
        await asyncio.sleep(0)
        limiter.release()
        limiter.slow_down(at, retry_after=0.5 if i % 7 == 0 else None)
        done += 1

    async with asyncio.timeout(10):
        await asyncio.gather(*(work(i) for i in range(300)))
    assert (done, limiter.allowed) == (300, 1)


async def test_one_who_stops_waiting_leaves_no_hole() -> None:
    limiter = Limiter(None, 1, FakeTime().timing)
    await limiter.acquire()
    gone = asyncio.create_task(limiter.acquire())
    await settle()
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    limiter.release()
    async with asyncio.timeout(1):
        await limiter.acquire()

    late = asyncio.create_task(limiter.acquire())
    await settle()
    limiter.release()  # the slot is on its way to ``late`` …
    late.cancel()  # … who leaves at the same moment
    with suppress(asyncio.CancelledError):
        await late
    async with asyncio.timeout(1):
        await limiter.acquire()


async def test_several_that_share_a_limit_keep_to_it_together() -> None:
    """Four processes, each of which has a clock of its own: the bucket is one minute's worth of all of them."""
    times = [FakeTime() for _ in range(4)]
    for time in times:
        limiter = Limiter(240, 100, time.timing)
        limiter.use(1 / 4)
        await admitted(limiter, 60)
        assert time.now == 1000.0
        await admitted(limiter, 60)
        assert time.now == pytest.approx(1060.0)


async def test_who_gets_a_smaller_share_gives_up_of_what_it_saved_and_a_larger_one_comes_slowly() -> None:
    time = FakeTime()
    limiter = Limiter(240, 100, time.timing)
    limiter.use(1 / 4)
    await admitted(limiter, 60)
    limiter.use(1.0)
    await admitted(limiter, 4)
    assert time.now == pytest.approx(1001.0), "the others have had their part of this minute"
    time.now += 600
    limiter.use(1 / 240)
    await admitted(limiter, 2)
    assert time.now == pytest.approx(1661.0)


async def test_requests_in_flight_are_shared_too_and_everybody_has_one() -> None:
    limiter = Limiter(None, 8, FakeTime().timing)
    for share, allowed in ((1 / 2, 4), (1 / 4, 2), (1 / 100, 1)):
        limiter.use(share)
        assert limiter.allowed == allowed


async def test_it_says_when_it_is_the_provider_that_holds_requests_back() -> None:
    limiter = Limiter(None, 1024, FakeTime().timing)
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(START_IN_FLIGHT + 1)]
    await settle()
    said = [limiter.held]
    limiter.slow_down(0.0)
    said.append(limiter.held)
    assert said == [False, True], "it has only just begun; then the provider complained"
    for _ in waiting:
        limiter.release()
    await asyncio.gather(*waiting)
    assert not limiter.held, "nobody waits"


@pytest.mark.parametrize(("per_minute", "in_flight"), [(60, 100), (None, 2)])
async def test_configured_limits_hold_requests_back(per_minute: int | None, in_flight: int) -> None:
    timing = Timing(clock=lambda: 0.0, sleep=lambda secs: asyncio.Event().wait())
    limiter = Limiter(per_minute, in_flight, timing)
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(62)]
    await settle()
    if per_minute:
        for _ in range(60):
            limiter.release()
        await settle()
    assert limiter.held
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not limiter.held
