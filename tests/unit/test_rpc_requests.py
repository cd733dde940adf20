"""Calls are batched, paired by id, split, and tried again as data.md 2.1, 2.2 and 2.5 say."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ampd_ray.errors import (
    BlockUnavailable,
    DataFault,
    MalformedResponse,
    MethodMissing,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    ResponseTooLarge,
)
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.envelope import Answer, Call, Request, decode
from ampd_ray.providers.failures import Failed, Failure
from ampd_ray.providers.limits import START_IN_FLIGHT, Limiter
from ampd_ray.providers.requests import Requester
from tests.fakes.rpc_time import FakeTime

Respond = Callable[[list[dict[str, Any]]], Any]


class FakeNode:
    """A transport whose answers come from ``respond(calls)``: the body as a value, or ``Failure`` to raise."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[list[dict[str, Any]]] = []

    async def exchange(self, request: Request) -> Answer:
        sent = msgspec.json.decode(request.payload)
        calls = sent if isinstance(sent, list) else [sent]
        self.requests.append(calls)
        body = self.respond(calls)
        if isinstance(body, Failure):
            raise Failed(body)
        return decode(msgspec.json.encode(body))

    async def close(self) -> None:
        """Nothing to close."""

    @property
    def sizes(self) -> list[int]:
        return [len(calls) for calls in self.requests]


def echo(calls: list[dict[str, Any]]) -> Any:
    replies = [{"jsonrpc": "2.0", "id": call["id"], "result": call["params"][0]} for call in calls]
    return replies if len(replies) > 1 else replies[0]


def error(call: dict[str, Any], code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}}


def number(value: int) -> Call[int]:
    return Call("echo", [value], msgspec.json.Decoder(int).decode, value)


class Setup:
    def __init__(self, respond: Respond, batch_size: int = 0, per_minute: int | None = None) -> None:
        self.time = FakeTime()
        self.node = FakeNode(respond)
        endpoint = Endpoint(
            "alchemy_1", "https", "node.example", "https://node.example/s3cr3tkey", {}, "", ("s3cr3tkey",)
        )
        self.limiter = Limiter(per_minute, 16, self.time.timing)
        self.requester = Requester(endpoint, self.node, self.limiter, batch_size=batch_size, timing=self.time.timing)

    def hang(self, seconds: float) -> Failure:
        self.time.now += seconds
        return Failure(ProviderUnreachable, "did not answer in time", timed_out=True)

    async def ask(self, *values: int) -> list[int | ProviderError]:
        return await self.requester.many([number(value) for value in values])


@pytest.mark.parametrize(("batch_size", "sizes"), [(0, [1] * 7), (1, [1] * 7), (3, [3, 3, 1]), (100, [7])])
async def test_calls_go_out_alone_or_in_batches(batch_size: int, sizes: list[int]) -> None:
    setup = Setup(echo, batch_size)
    assert await setup.ask(*range(7)) == list(range(7))
    assert setup.node.sizes == sizes
    assert setup.requester.counters.snapshot().requests == len(sizes)
    assert await setup.ask() == []


async def test_replies_are_paired_by_id_in_whatever_order_and_spelling() -> None:
    def shuffled(calls: list[dict[str, Any]]) -> Any:
        return [reply | {"id": str(reply["id"])} for reply in reversed(echo(calls))]

    assert await Setup(shuffled, 10).ask(5, 6, 7) == [5, 6, 7]


async def test_only_the_bad_entry_of_a_batch_is_asked_again() -> None:
    def fails_once(calls: list[dict[str, Any]]) -> Any:
        if len(calls) == 1:
            return echo(calls)
        good = echo(calls)
        return [good[0], error(calls[1], -32603, "internal"), *good[2:]]

    setup = Setup(fails_once, 10)
    assert await setup.ask(1, 2, 3, 4) == [1, 2, 3, 4]
    assert [[call["params"] for call in calls] for calls in setup.node.requests] == [[[1], [2], [3], [4]], [[2]]]
    assert setup.requester.counters.snapshot().retries == 1


async def test_an_entry_that_stays_bad_leaves_the_others() -> None:
    def never_2(calls: list[dict[str, Any]]) -> Any:
        replies = [error(call, -32602, "invalid argument") if call["params"] == [2] else echo([call]) for call in calls]
        return replies if len(replies) > 1 else replies[0]

    one, two, three = await Setup(never_2, 10).ask(1, 2, 3)
    assert (one, three) == (1, 3)
    assert isinstance(two, ProviderError)
    assert two.details["block"] == 2
    assert two.details["bad_params"]


@pytest.mark.parametrize("spoil", ["missing", "twice"])
async def test_a_missing_or_second_reply_is_a_fault_of_that_entry(spoil: str) -> None:
    def respond(calls: list[dict[str, Any]]) -> Any:
        if len(calls) == 1:
            return {"id": calls[0]["id"] + 1000, "result": 1}
        replies = echo(calls)
        return replies[1:] if spoil == "missing" else [*replies, replies[0]]

    first, second = await Setup(respond, 10).ask(1, 2)
    assert isinstance(first, MalformedResponse)
    assert second == 2


async def test_a_batch_too_large_goes_out_in_halves_and_the_size_is_kept_for_ten_minutes() -> None:
    def at_most_3(calls: list[dict[str, Any]]) -> Any:
        return Failure(ResponseTooLarge, "answered HTTP 413: too large") if len(calls) > 3 else echo(calls)

    setup = Setup(at_most_3, 10)
    assert await setup.ask(*range(10)) == list(range(10))
    assert sum(size for size in setup.node.sizes if size <= 3) == 10
    assert setup.requester.batch_size == 2
    asked = len(setup.node.requests)
    await setup.ask(*range(6))
    assert setup.node.sizes[asked:] == [2, 2, 2]
    assert setup.requester.counters.snapshot().retries == 0
    assert setup.time.slept == []
    setup.time.now += 601
    assert setup.requester.batch_size == 10


async def test_a_server_without_batches_is_asked_one_by_one() -> None:
    def no_batches(calls: list[dict[str, Any]]) -> Any:
        if len(calls) > 1:
            return {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "invalid request"}}
        return echo(calls)

    setup = Setup(no_batches, 8)
    assert await setup.ask(*range(4)) == [0, 1, 2, 3]
    assert setup.requester.batch_size == 1


async def test_a_batch_that_times_out_is_split() -> None:
    def slow(calls: list[dict[str, Any]]) -> Any:
        late = Failure(ProviderUnreachable, "did not answer in time", timed_out=True)
        return late if len(calls) > 2 else echo(calls)

    assert await Setup(slow, 8).ask(*range(8)) == list(range(8))


async def test_one_call_that_is_too_large_fails() -> None:
    setup = Setup(lambda _: Failure(ResponseTooLarge, "answered HTTP 413: too large"), 4)
    outcomes = await setup.ask(1, 2)
    assert all(isinstance(outcome, ResponseTooLarge) for outcome in outcomes)
    assert setup.node.sizes[:2] == [2, 1]


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (Failure(ProviderUnreachable, "refused the connection"), 8),
        (Failure(RateLimited, "answered HTTP 429"), 8),
        (Failure(BlockUnavailable, "has nothing"), 6),
        (Failure(MalformedResponse, "answered HTML"), 3),
        (Failure(ProviderError, "answered error -32000"), 3),
        (Failure(ProviderError, "answered error -32602", final=True), 1),
        (Failure(ProviderRefused, "answered HTTP 401"), 1),
        (Failure(MethodMissing, "answered error -32601"), 1),
    ],
)
async def test_each_class_has_its_tries_then_the_error_names_everything(failure: Failure, tries: int) -> None:
    setup = Setup(lambda _: failure)
    (outcome,) = await setup.ask(42)
    assert type(outcome) is failure.error
    assert len(setup.node.requests) == tries
    assert outcome.details == {
        "provider": "alchemy_1", "host": "node.example", "method": "echo", "tries": tries, "block": 42
    }  # fmt: skip
    assert str(outcome).startswith(f"block 42: provider alchemy_1 at node.example {failure.text}")


async def test_back_off_is_exponential_and_capped_by_two_minutes() -> None:
    setup = Setup(lambda _: Failure(ProviderUnreachable, "gone"))
    await setup.ask(1)
    assert setup.time.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4])

    patient = Setup(lambda _: Failure(RateLimited, "wait", retry_after=50))
    (outcome,) = await patient.ask(1)
    assert isinstance(outcome, RateLimited)
    assert outcome.details["retry_after"] == 50
    assert len(patient.node.requests) == 3
    assert patient.time.now - 1000 < 120


async def test_waiting_for_its_turn_is_not_held_against_a_call() -> None:
    failures = iter([Failure(ProviderUnreachable, "gone")] * 3)

    def recovers(calls: list[dict[str, Any]]) -> Any:
        return next(failures, None) or echo(calls)

    setup = Setup(recovers, per_minute=1)
    assert await setup.ask(1, 2, 3) == [1, 2, 3]
    assert setup.time.now - 1000 > 120


async def test_time_in_vain_requests_counts() -> None:
    setup = Setup(lambda _: setup.hang(30))
    (outcome,) = await setup.ask(1)
    assert isinstance(outcome, ProviderUnreachable)
    assert len(setup.node.requests) == 4


async def test_retry_after_is_honoured_also_inside_a_200() -> None:
    answers = iter([{"error": {"code": 429, "message": "slow down, retry in 7s"}}])

    def busy_once(calls: list[dict[str, Any]]) -> Any:
        busy = next(answers, None)
        return echo(calls) if busy is None else busy | {"id": calls[0]["id"]}

    setup = Setup(busy_once)
    assert await setup.ask(9) == [9]
    assert setup.time.now - 1000 >= 7
    assert setup.requester.counters.snapshot().throttled == 1


async def test_a_batch_refused_as_a_whole_for_its_rate_slows_down_and_stays_whole() -> None:
    refusals = iter([{"jsonrpc": "2.0", "id": None, "error": {"code": 429, "message": "slow down"}}])

    def busy_once(calls: list[dict[str, Any]]) -> Any:
        return next(refusals, None) or echo(calls)

    setup = Setup(busy_once, 4)
    assert await setup.ask(1, 2, 3, 4) == [1, 2, 3, 4]
    assert setup.node.sizes == [4, 4]
    assert setup.limiter.allowed == START_IN_FLIGHT // 2
    assert setup.requester.counters.snapshot().throttled == 4


async def test_null_is_never_a_value() -> None:
    setup = Setup(lambda calls: {"id": calls[0]["id"], "result": None})
    (outcome,) = await setup.ask(3)
    assert isinstance(outcome, BlockUnavailable)
    assert "null" in str(outcome)


async def test_a_result_of_the_wrong_shape_is_a_fault_of_its_block_or_malformed_without_one() -> None:
    setup = Setup(lambda calls: {"id": calls[0]["id"], "result": {"a": 1}})
    (outcome,) = await setup.ask(3)
    assert type(outcome) is DataFault
    assert outcome.details["block"] == 3
    assert len(setup.node.requests) == 1  # whoever wants the block fetches all of it again
    with pytest.raises(MalformedResponse, match="in a form that we cannot read"):
        await setup.requester.one(Call("echo", [0], msgspec.json.Decoder(int).decode))


async def test_what_may_be_the_answer_to_another_request_is_asked_again_slower_and_held_against_no_block() -> None:
    too_large = Failure(ResponseTooLarge, "answered more than 128 MiB", shared=True)
    failures = iter([too_large] * 3)
    setup = Setup(lambda calls: next(failures, None) or echo(calls))
    assert await setup.ask(3) == [3]
    setup.node.respond = lambda _: too_large
    (outcome,) = await setup.ask(3)
    assert isinstance(outcome, ResponseTooLarge)
    assert "block" not in outcome.details
    assert setup.limiter.allowed == 1


async def test_what_the_provider_says_about_our_key_stays_out_of_the_error() -> None:
    def tells(calls: list[dict[str, Any]]) -> Any:
        return error(calls[0], -32602, "key s3cr3tkey at https://node.example/v2/s3cr3tkey?x=1 is invalid")

    (outcome,) = await Setup(tells).ask(3)
    assert "s3cr3tkey" not in str(outcome)
    assert "https://node.example" in str(outcome)
