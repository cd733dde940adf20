"""Job descriptors (metadata-db.md 5.5, 7.2, 7.3)."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from ampd_ray.datasets.descriptor import JobDescriptor, idempotency_key
from ampd_ray.errors import InvalidDescriptor, UnsupportedJobKind

HASH = "a" * 64


def document(**changes: Any) -> str:
    fields = {"kind": "materialize-raw", "dataset_namespace": "_", "dataset_name": "eth_rpc", "manifest_hash": HASH}
    return json.dumps(fields | changes)


def test_the_golden_idempotency_keys() -> None:
    golden = "429dc6fc6e9bb3098ddb7e58be857f5f8e00e6f049001cd9ffa7609bdb9597be"
    assert idempotency_key("_", "eth_rpc", golden) == "96489cfe8a91c902d456e59346094e69e3380cef0e85ec19e30da288178f83da"
    key = "9cf7bf060389c4f026be721df26adeec9dc50794dc54cd354d287d1c77ea8c5c"
    assert JobDescriptor.parse(document()).idempotency_key == key


def test_defaults_are_applied_and_written_in_amps_order() -> None:
    descriptor = JobDescriptor.parse(document(unknown=1))
    assert descriptor.to_json() == (
        '{"kind":"materialize-raw","end_block":null,"max_writers":1,"dataset_namespace":"_",'
        f'"dataset_name":"eth_rpc","manifest_hash":"{HASH}","verify":false}}'
    )
    assert descriptor.dataset == "_/eth_rpc"
    assert pickle.loads(pickle.dumps(descriptor)) == descriptor


def test_our_own_fields_are_written_only_when_set() -> None:
    descriptor = JobDescriptor.parse(document(tables=["logs"], requested="15M:+10", end_block="-5", max_writers=0))
    assert (descriptor.tables, descriptor.requested, descriptor.end_block) == (("logs",), "15M:+10", "-5")
    assert descriptor.max_writers == 1
    assert JobDescriptor.parse(descriptor.to_json()) == descriptor
    assert json.loads(descriptor.to_json())["tables"] == ["logs"]
    pinned = JobDescriptor.parse(document(provider="mine"))
    assert JobDescriptor.parse(pinned.to_json()).provider == "mine"
    urgent = JobDescriptor.parse(document(priority=90))
    assert (JobDescriptor.parse(urgent.to_json()).weight, descriptor.weight) == (90, 10)


@pytest.mark.parametrize("priority", [0, 101, "high", 1.5])
def test_a_priority_that_is_none_is_refused(priority: Any) -> None:
    with pytest.raises(InvalidDescriptor, match="priority"):
        JobDescriptor.parse(document(priority=priority))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"end_block": None},
        {"max_writers": 1},
        {"verify": False},
        {"x": 1},
        {"max_writers": 0},
        {"requested": "1:2"},
        {"provider": "other"},
        {"priority": 90},
    ],
)
def test_spelling_does_not_change_the_work(changes: dict[str, Any]) -> None:
    assert JobDescriptor.parse(document(**changes)).same_work(JobDescriptor.parse(document()))


@pytest.mark.parametrize(
    "changes",
    [{"end_block": "latest"}, {"max_writers": 2}, {"verify": True}, {"tables": ["logs"]}, {"manifest_hash": "b" * 64}],
)
def test_other_work_is_other_work(changes: dict[str, Any]) -> None:
    assert not JobDescriptor.parse(document(**changes)).same_work(JobDescriptor.parse(document()))


def test_the_order_of_tables_does_not_matter() -> None:
    one, other = (JobDescriptor.parse(document(tables=tables)) for tables in (["logs", "blocks"], ["blocks", "logs"]))
    assert one.same_work(other)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "null",
        "{}",
        document(end_block=5),
        document(end_block="soon"),
        document(max_writers=65536),
        document(max_writers="4"),
        document(dataset_namespace="A"),
        document(dataset_name="1a"),
        document(manifest_hash="A" * 64),
        document(manifest_hash=HASH + "\n"),
        document(verify="yes"),
        document(kind=3),
    ],
)
def test_an_invalid_descriptor_is_refused(text: str) -> None:
    with pytest.raises(InvalidDescriptor) as caught:
        JobDescriptor.parse(text)
    assert caught.value.code == "INVALID_DESCRIPTOR"


def test_another_kind_is_unsupported() -> None:
    text = '{"kind":"materialize-derived","end_block":null,"dataset_namespace":"_","dataset_name":"x"}'
    with pytest.raises(UnsupportedJobKind, match="materialize-derived"):
        JobDescriptor.parse(text)
