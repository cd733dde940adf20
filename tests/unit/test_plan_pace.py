"""What limits a backfill with so many extractors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ampd_ray.client.planning.pace import Machine, Work, pace

WORK = Work(
    blocks=100_000,
    parts=100_000,
    requests=200_000,
    trips=2.0,
    latency_secs=0.05,
    part_bytes=50_000,
    arrow_bytes_a_block=40_000,
    batch_size=1,
    task_blocks=400,
    tasks=250,
    units=10,
    extract_secs=400.0,
    write_secs=50.0,
    writers=1,
    per_minute=None,
    in_flight=1024,
    memory_bytes=256 << 20,
    begin_secs=0.0,
)


def limit(work: Work, extractors: int = 1, machine: Machine | None = None) -> str:
    return pace(work, extractors, machine).name


def test_one_extractor_is_busy_and_many_are_as_fast_as_the_writer() -> None:
    assert [limit(WORK, number) for number in (1, 2, 4, 16)] == ["cpu", "cpu", "cpu", "writer"]
    assert pace(WORK, 2).seconds == pytest.approx(400 / 2, rel=0.05)
    assert pace(replace(WORK, writers=4), 16).seconds < pace(WORK, 16).seconds


def test_far_away_providers_limit_by_latency() -> None:
    far = replace(WORK, latency_secs=2.0, in_flight=64, extract_secs=10.0)
    assert limit(far) == "latency"
    assert pace(far, 1).seconds == pytest.approx(200_000 * 2.0 / 64, rel=0.01)
    assert pace(far, 2).seconds == pace(far, 1).seconds, "the provider's limit is for all extractors together"
    free = replace(far, in_flight=1024)
    assert pace(free, 2).seconds == pytest.approx(pace(free, 1).seconds / 2, rel=0.01)


def test_more_extractors_than_the_memory_of_a_job_feeds_are_of_no_use() -> None:
    tight = replace(WORK, latency_secs=5.0, extract_secs=10.0, task_blocks=20, arrow_bytes_a_block=800_000)
    assert [limit(tight, number) for number in (1, 8)] == ["latency", "memory"]
    assert pace(tight, 16).seconds == pace(tight, 8).seconds


def test_the_rate_limit_holds_for_all_extractors_together_and_the_bucket_is_full_at_first() -> None:
    slow = replace(WORK, per_minute=600)
    assert limit(slow) == "rate limit"
    assert pace(slow, 1).seconds == pytest.approx((200_000 - 600) / 10, rel=0.01)
    assert pace(slow, 4).seconds == pace(slow, 1).seconds
    assert limit(replace(WORK, per_minute=300_000)) == "cpu"


def test_on_one_machine_all_processes_share_its_cores() -> None:
    alone = pace(WORK, 8, Machine(2))
    assert alone.name == "cpu"
    assert alone.seconds > pace(WORK, 8).seconds
    crowded = pace(WORK, 8, Machine(2, crowding=3.0))
    assert alone.seconds < crowded.seconds < 3 * alone.seconds


def test_what_comes_before_and_between_is_added() -> None:
    later = pace(replace(WORK, begin_secs=10.0), 1)
    assert later.seconds == pytest.approx(pace(WORK, 1).seconds + 10)
    assert pace(replace(WORK, units=1000), 1).seconds > pace(WORK, 1).seconds + 200
