"""Payloads of ``job_actions``: ours are exact, others' are accepted or ignored, whatever they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.metadb.notifications import (
    RECONNECT_FIRST,
    RECONNECT_LAST,
    Action,
    JobAction,
    job_action_payload,
    parse_job_action,
    reconnect_delay,
)


def test_ours_have_exactly_amps_shape() -> None:
    assert job_action_payload("worker-1", 42, Action.START) == (
        '{"node_id":"worker-1","payload":{"job_id":42,"action":"START"}}'
    )


@given(node_id=st.text(min_size=1), job_id=st.integers(1, 2**63 - 1), action=st.sampled_from(Action))
def test_what_we_send_we_understand(node_id: str, job_id: int, action: Action) -> None:
    assert parse_job_action(job_action_payload(node_id, job_id, action)) == JobAction(node_id, job_id, action)


@pytest.mark.parametrize(
    "payload",
    [
        '{"node_id":"a","payload":{"job_id":1,"action":"stop"}}',
        '{"payload":{"action":"Stop","job_id":1,"why":"x"},"node_id":"a","extra":[1]}',
    ],
)
def test_any_case_and_unknown_fields_are_accepted(payload: str) -> None:
    assert parse_job_action(payload) == JobAction("a", 1, Action.STOP)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "null",
        "[]",
        '"START"',
        "{",
        "[" * 7000,
        "1" * 7000,
        '{"node_id":"a"}',
        '{"node_id":"a","payload":null}',
        '{"node_id":"a","payload":[1,"START"]}',
        '{"node_id":null,"payload":{"job_id":1,"action":"START"}}',
        '{"node_id":"a","payload":{"job_id":"1","action":"START"}}',
        '{"node_id":"a","payload":{"job_id":true,"action":"START"}}',
        '{"node_id":"a","payload":{"job_id":0,"action":"START"}}',
        '{"node_id":"a","payload":{"job_id":-1,"action":"START"}}',
        '{"node_id":"a","payload":{"job_id":1.5,"action":"START"}}',
        '{"node_id":"a","payload":{"job_id":9223372036854775808,"action":"START"}}',
        '{"node_id":"a","payload":{"job_id":1,"action":"PAUSE"}}',
        '{"node_id":"a","payload":{"job_id":1,"action":1}}',
        '{"node_id":"a","payload":{"job_id":1}}',
    ],
)
def test_anything_else_is_no_hint(payload: str) -> None:
    assert parse_job_action(payload) is None


@given(st.text())
def test_no_text_raises(payload: str) -> None:
    assert parse_job_action(payload) is None


@given(failures=st.integers(0, 10_000), chance=st.floats(0, 1))
def test_pauses_between_attempts_stay_within_bounds(failures: int, chance: float) -> None:
    assert RECONNECT_FIRST <= reconnect_delay(failures, chance) <= RECONNECT_LAST
