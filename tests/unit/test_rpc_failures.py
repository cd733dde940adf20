"""Every answer of a provider falls into its class of data.md 2.5."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ampd_ray.errors import (
    BlockUnavailable,
    MalformedResponse,
    MethodMissing,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    ResponseTooLarge,
)
from ampd_ray.providers.failures import not_json, of_rpc_error, of_status, retry_after_of

ERRORS = [
    (-32601, "the method eth_getBlockReceipts does not exist/is not available", MethodMissing),
    (-32600, "Unsupported method: eth_getBlockReceipts. See available methods at …", MethodMissing),
    (-32004, "Method not supported", MethodMissing),
    (-32000, "method eth_getBlockReceipts is not whitelisted", MethodMissing),
    (429, "Your app has exceeded its compute units per second capacity.", RateLimited),
    (-32005, "daily request count exceeded, request rate limited", RateLimited),
    (-32005, "limit exceeded", RateLimited),
    (-32007, "50/second request limit reached - reduce calls per second", RateLimited),
    (-32029, "Too Many Requests", RateLimited),
    (-32000, "too many requests in the last second", RateLimited),
    (-32001, "service is overloaded", RateLimited),
    (-32003, "response too large", ResponseTooLarge),
    (-32600, "batch too large", ResponseTooLarge),
    (-32000, "Batch size too large; maximum batch size is 100", ResponseTooLarge),
    (-32005, "query returned more than 10000 results", ResponseTooLarge),
    (-32008, "Response is too big", ResponseTooLarge),
    (-32000, "too many calls in one batch", ResponseTooLarge),
    (-32603, "Internal error", ProviderUnreachable),
    (-32000, "request timed out", ProviderUnreachable),
    (-32002, "execution aborted (timeout = 5s)", ProviderUnreachable),
    (-32000, "header not found", BlockUnavailable),
    (-32001, "Resource not found", BlockUnavailable),
    (-32000, "finalized block not found", BlockUnavailable),
    (-32000, "cannot query unfinalized data: block beyond the current head", BlockUnavailable),
    (-32000, "missing trie node 4f1c", BlockUnavailable),
    (4444, "pruned history unavailable", BlockUnavailable),
    (-32602, "invalid argument 0: hex string has length 64, want 16", ProviderError),
    (-32000, "something else", ProviderError),
]


@pytest.mark.parametrize(("code", "message", "expected"), ERRORS)
def test_an_error_object_is_classified_by_code_and_words(
    code: int, message: str, expected: type[ProviderError]
) -> None:
    assert of_rpc_error({"code": code, "message": message}).error is expected


def test_an_error_object_of_another_form_is_still_classified() -> None:
    assert of_rpc_error("Too Many Requests").error is RateLimited
    assert of_rpc_error({"code": "-32601"}).error is MethodMissing
    assert of_rpc_error({"code": None, "message": None}).error is ProviderError
    assert of_rpc_error(None).error is ProviderError


def test_a_rejected_hash_and_pruned_history_are_not_tried_again() -> None:
    rejected = of_rpc_error({"code": -32602, "message": "invalid argument 0"})
    pruned = of_rpc_error({"code": -32000, "message": "required historical state is pruned"})
    assert rejected.bad_params
    assert (rejected.tries, pruned.tries) == (1, 1)


def test_a_timed_out_batch_may_be_split_a_throttled_one_not() -> None:
    assert of_rpc_error({"code": -32000, "message": "batch request timeout"}).splits
    assert of_status(504, None, b"").splits
    assert of_status(413, None, b"").splits
    assert not of_status(429, None, b"").splits


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, b"", ProviderRefused),
        (403, b'{"error":{"code":-32000,"message":"nope"}}', ProviderRefused),
        (408, b"", ProviderUnreachable),
        (413, b"", ResponseTooLarge),
        (425, b"", ProviderUnreachable),
        (429, b"<html>", RateLimited),
        (500, b"oops", ProviderUnreachable),
        (500, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not found"}}', MethodMissing),
        (503, b'{"error":{"code":-32001,"message":"busy"}}', RateLimited),
        (400, b'{"error":{"code":-32600,"message":"batch too large"}}', ResponseTooLarge),
        (400, b'{"error":{"code":-32602,"message":"invalid params"}}', ProviderError),
        (404, b"<html>", ProviderError),
        (301, b"", ProviderError),
    ],
)
def test_a_status_is_classified_and_the_body_may_say_more(
    status: int, body: bytes, expected: type[ProviderError]
) -> None:
    assert of_status(status, None, body).error is expected


def test_retry_after_is_understood_wherever_it_stands() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after_of("7") == 7
    assert 25 < (retry_after_of(soon) or 0) <= 30
    assert retry_after_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_of("soon") is None
    assert of_status(429, 3.0, b"").retry_after == 3.0
    assert of_rpc_error({"code": 429, "message": "slow down"}, 2.0).retry_after == 2.0
    infura = {"code": -32005, "message": "limited", "data": {"rate": {"backoff_seconds": 24}}}
    assert of_rpc_error(infura).retry_after == 24
    assert of_rpc_error({"code": -32007, "message": "Too many requests, retry in 250ms"}).retry_after == 0.25
    assert of_rpc_error({"code": 429, "message": "try again in 1.5 seconds"}).retry_after == 1.5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<!DOCTYPE html><html>", "HTML instead of JSON"),
        (b'{"jsonrpc":"2.0","id":1,"result":{"nu', "truncated"),
        (b"", "nothing"),
        (b"Bad gateway", "not JSON"),
    ],
)
def test_what_is_no_json_is_named(body: bytes, words: str) -> None:
    failure = not_json(body)
    assert failure.error is MalformedResponse
    assert words in failure.text
