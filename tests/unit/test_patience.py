"""How often a job complains, and how long it bears with what goes wrong."""

from __future__ import annotations

import logging

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import (
    AmpdError,
    BlockUnavailable,
    DatabaseUnavailable,
    DataFault,
    Fenced,
    JobFailed,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    StoreUnavailable,
    WrongChain,
)
from ampd_ray.materialize import patience
from ampd_ray.materialize.heads import MAX_REFUSALS, STRIDE_BLOCKS, Head, Heads
from ampd_ray.materialize.patience import Complaints, patiently, step
from tests.fakes.heads import ScriptedHeads, head


async def test_a_step_names_where_an_error_happened() -> None:
    with pytest.raises(JobFailed) as caught:
        async with step("GET_DATASET"):
            raise DataFault("block 7", block=7, cause="x", error_class="y")
    error = caught.value
    assert (error.step, error.retryable, str(error)) == ("GET_DATASET", True, "block 7")
    assert error.details["block"] == 7
    assert (error.details["cause"], error.details["error_class"]) == ("DATA_FAULT", "bounded")
    assert isinstance(error.__cause__, DataFault)


@pytest.mark.parametrize("error", [JobFailed("inner", step="INNER", retryable=False), Fenced("taken"), ValueError("x")])
async def test_a_step_lets_through_what_has_its_meaning_already(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        async with step("OUTER"):
            raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "within_secs", "calls"),
    [
        (DatabaseUnavailable("away"), 60.0, 12),
        (StoreUnavailable("busy"), 60.0, 12),
        (DatabaseUnavailable("away"), 0.0, 1),
        (DataFault("wrong"), 60.0, 1),
    ],
)
async def test_a_database_or_a_store_that_is_away_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, error: AmpdError, within_secs: float, calls: int
) -> None:
    monkeypatch.setattr(patience, "PAUSES_SECS", (0.0,))
    made = 0

    async def call() -> None:
        nonlocal made
        made += 1
        if made == 12:
            raise WrongChain("other")
        raise error

    with pytest.raises(WrongChain if calls == 12 else type(error)):
        await patiently(call, within_secs)
    assert made == calls


def test_complaints_come_once_a_minute_for_each_cause(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    complaints = Complaints("asking", lambda: now[0])
    for second in range(150):
        now[0] = float(second)
        complaints.add(ProviderUnreachable("refused"))
        if second >= 100:
            complaints.add(RateLimited("slow down"))
    assert complaints.counts == {"RPC_UNREACHABLE": 150, "RPC_RATE_LIMITED": 50}
    said = [(r.__dict__["cause"], r.__dict__["count"], r.__dict__["for_secs"]) for r in caplog.records]
    assert said == [
        ("RPC_UNREACHABLE", 1, 0.0),
        ("RPC_UNREACHABLE", 61, 60.0),
        ("RPC_RATE_LIMITED", 1, 0.0),
        ("RPC_UNREACHABLE", 121, 120.0),
    ]
    complaints.settle()
    complaints.settle()
    assert caplog.records[-1].__dict__["failures"] == 200
    assert len(caplog.records) == 5


async def test_a_head_is_steady_when_two_polls_agree() -> None:
    one, two = head(5, b"a" * 32), head(5, b"b" * 32)
    heads = Heads(ScriptedHeads(head(4, b"0" * 32), one, one, two, two, head(6, b"c" * 32)), "latest")
    steady = []
    for _ in range(5):
        await heads.poll()
        steady.append(heads.is_steady)
    assert steady == [False, True, False, True, False]


async def polled(*script: Head | Exception, polls: int) -> list[int | None]:
    heads = Heads(ScriptedHeads(*script), "latest", clock=lambda: 0.0)
    seen = [await heads.poll() for _ in range(polls)]
    return [None if found is None else found.number for found in seen]


async def test_a_head_that_one_answer_alone_names_is_no_head(caplog: pytest.LogCaptureFixture) -> None:
    real, absurd, low = head(9_000, b"a" * 32), head(2**40, b"b" * 32), head(0, b"c" * 32)
    away = head(9_000 + STRIDE_BLOCKS + 1, b"d" * 32)
    assert await polled(absurd, real, real, polls=2) == [None, 9_000]
    assert await polled(real, real, absurd, real, real, polls=3) == [9_000, None, 9_000]
    assert await polled(real, low, low, low, polls=2) == [None, 0]  # a chain that is short, after all
    assert [record.__dict__["cause"] for record in caplog.records] == ["DATA_FAULT"] * 3
    assert await polled(real, real, away, away, polls=2) == [9_000, away.number]  # a long pass lay between them


async def test_a_head_that_no_chain_can_have_is_a_refusal() -> None:
    heads = Heads(ScriptedHeads(head(2**62 - 1, b"a" * 32)), "latest")
    for _ in range(MAX_REFUSALS - 1):
        assert await heads.poll() is None
    with pytest.raises(DataFault, match="4611686018427387903"):
        await heads.poll()


async def test_refusals_count_only_in_a_row() -> None:
    refused, fine = ProviderRefused("401"), head(5, b"a" * 32)
    script: list[Head | Exception] = [fine, fine]  # the first is asked for twice
    for _ in range(3):
        script += [refused] * (MAX_REFUSALS - 1)
        script.append(fine)
    script += [refused] * MAX_REFUSALS
    heads = Heads(ScriptedHeads(*script), "latest")
    for _ in range(len(script) - 2):
        await heads.poll()
    with pytest.raises(ProviderRefused):
        await heads.poll()


async def test_a_chain_without_a_block_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    heads = Heads(ScriptedHeads(BlockUnavailable("null")), "latest")
    for _ in range(MAX_REFUSALS * 2):
        assert await heads.poll() is None
    assert heads.waits_for == "head"
    assert caplog.records == []


async def test_what_no_time_cures_is_not_waited_for() -> None:
    with pytest.raises(WrongChain):
        await Heads(ScriptedHeads(WrongChain("other")), "latest").poll()


async def test_a_node_that_does_not_tell_what_is_final_is_complained_about_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heads = Heads(ScriptedHeads(head(5, b"a" * 32)), "latest", clock=lambda: 0.0)
    for _ in range(3):
        assert await heads.finalized() is None
        assert await heads.poll() is not None
    assert [record.__dict__["cause"] for record in caplog.records] == ["RPC_BLOCK_UNAVAILABLE"]


def test_passes_that_change_nothing_come_more_and_more_rarely_and_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    standstill = patience.Standstill(0.5, lambda: now)
    pauses = []
    for _ in range(12):
        pauses.append(standstill.pause(Span(7, 9)))
        now += pauses[-1]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == patience.MAX_PAUSE_SECS
    assert 1 < len(caplog.records) < 6
    assert caplog.records[0].__dict__["first"] == Span(7, 9)
    assert caplog.records[0].__dict__["for_secs"] >= 60
    standstill.settle()
    assert standstill.pause(Span(7, 9)) == 0.5
