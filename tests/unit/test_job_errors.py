"""The error JSON of a failed job (spec/metadata-db.md 5.6 to 5.8)."""

from __future__ import annotations

import json

import pytest

from ampd_ray.errors import AmpdError, DataFault, JobFailed, ProviderUnreachable, StoreFull, Unexpected, WrongChain
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.node.job_errors import MAX_BYTES, Attempt, error_class, error_code, error_json, final_status


def caused(error: AmpdError, cause: BaseException) -> AmpdError:
    error.__cause__ = cause
    return error


def step(cause: AmpdError) -> AmpdError:
    return caused(JobFailed("writing failed", step="PARTITION_TASK", retryable=cause.retryable), cause)


def test_a_failure_tells_all_that_is_known() -> None:
    cause = caused(DataFault("block 7: 3 receipts for 4 transactions", provider="p", block=7), ValueError("odd"))
    assert error_json(step(cause), Attempt(2, 1, "_/eth", "ab" * 32)) == {
        "error_code": "PARTITION_TASK",
        "error_message": "writing failed",
        "error_context": {
            "stack_trace": ["block 7: 3 receipts for 4 transactions", "ValueError: odd"],
            "attempt_index": 2,
            "dataset": "_/eth",
            "manifest_hash": "ab" * 32,
            "block": 7,
            "block_range_start": 7,
            "block_range_end": 7,
            "provider": "p",
            "error_class": "bounded",
            "implementation": "ampd-ray",
        },
    }


def test_what_could_not_be_found_out_is_left_out() -> None:
    context = error_json(WrongChain("chain 5, not 1"), Attempt())["error_context"]
    assert context == {"error_class": "fatal", "implementation": "ampd-ray"}


def test_no_secret_and_no_nul_gets_through() -> None:
    error = caused(WrongChain("at https://user:pw@rpc.example/v3/KEY"), ValueError("wss://host/TOKEN\x00"))
    text = json.dumps(error_json(error, Attempt()))
    assert "rpc.example" in text
    for secret in ("pw", "KEY", "TOKEN", "\\u0000"):
        assert secret not in text


def test_the_json_is_bounded() -> None:
    error: AmpdError = AmpdError("x" * 100_000, table="t" * 10_000)
    for _ in range(15):
        error = caused(AmpdError("\x1f" * 100_000), error)
    assert len(json.dumps(error_json(error, Attempt()))) <= MAX_BYTES


@pytest.mark.parametrize(
    ("error", "code", "handling"),
    [
        (WrongChain("x"), "WRONG_CHAIN", "fatal"),
        (Unexpected.of(ValueError()), "PANIC", "bounded"),
        (step(ProviderUnreachable("x")), "PARTITION_TASK", "transient"),
        (JobFailed("x", step="LATEST_BLOCK", retryable=True), "LATEST_BLOCK", "bounded"),
        (JobFailed("x", step="LATEST_BLOCK", retryable=False), "LATEST_BLOCK", "fatal"),
    ],
)
def test_code_and_class(error: AmpdError, code: str, handling: str) -> None:
    assert (error_code(error), error_class(error)) == (code, handling)


@pytest.mark.parametrize(
    ("error", "attempt", "status"),
    [
        (StoreFull("x"), Attempt(1, 1), JobStatus.ERROR),
        (StoreFull("x"), Attempt(), JobStatus.ERROR),
        (StoreFull("x"), Attempt(1, 20), JobStatus.FATAL),
        (StoreFull("x"), Attempt(40, 1), JobStatus.FATAL),
        (WrongChain("x"), Attempt(1, 1), JobStatus.FATAL),
        (step(ProviderUnreachable("x")), Attempt(39, 19), JobStatus.ERROR),
    ],
)
def test_error_or_fatal(error: AmpdError, attempt: Attempt, status: JobStatus) -> None:
    assert final_status(error, attempt, 20) is status
