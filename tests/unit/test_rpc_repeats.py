"""A storm of warnings is a handful of lines."""

import logging

import pytest

from ampd_ray.providers.repeats import Repeats
from tests.fakes.rpc_time import FakeTime


def test_a_kind_is_logged_once_in_five_seconds_and_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    time = FakeTime()
    repeats = Repeats(logging.getLogger("ampd_ray.test"), time.timing.clock)
    for _ in range(10_000):
        repeats.warn("RPC_RATE_LIMITED", "slow down", provider="p")
        time.now += 1 / 1024
    repeats.warn("RPC_UNREACHABLE", "gone", provider="p")
    lines = [(record.message, getattr(record, "repeated", 0)) for record in caplog.records]
    assert lines == [("slow down", 0), ("slow down", 5119), ("gone", 0)]
