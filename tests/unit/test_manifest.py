"""Manifests: canonical bytes and hashes equal to Amp's (data.md 3.2)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from ampd_ray.datasets.manifest import evm_rpc_manifest, parse_manifest, stored_manifest, table_differences
from ampd_ray.errors import InvalidManifest

GOLDEN = [
    ("mainnet", 15_000_000, False, 5648, "429dc6fc6e9bb3098ddb7e58be857f5f8e00e6f049001cd9ffa7609bdb9597be"),
    ("mainnet", 0, False, 5641, "bf5ee046516135f6ad291e3df98a97b321e35c784b9ea84cb980b7c9cb00e35b"),
    ("mainnet", 0, True, 5640, "048e8177dc1283e37a00940cd5c2bd7f78fb83125519ea3ac7164269a64f9bba"),
    ("anvil", 0, False, 5633, "25f4778d4db839bf1d7ff1e6b6eb8455e31cc1d3378952bee5499c64c5748fec"),
]


@pytest.mark.parametrize(("network", "start", "finalized", "size", "sha256"), GOLDEN)
def test_the_complete_manifest_has_the_golden_hash(
    network: str, start: int, finalized: bool, size: int, sha256: str
) -> None:
    manifest = evm_rpc_manifest(network, start, finalized)
    assert len(manifest.canonical_bytes()) == size
    assert manifest.hash == sha256
    again = parse_manifest(manifest.canonical_bytes())
    assert (again, again.hash) == (manifest, sha256)
    assert table_differences(again) == []


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def test_key_order_white_space_and_unknown_keys_do_not_change_the_hash() -> None:
    manifest = evm_rpc_manifest("mainnet", 15_000_000)
    document = reversed_keys(json.loads(manifest.canonical_bytes())) | {"comment": "mine"}
    document["tables"]["logs"]["comment"] = "mine"
    document["tables"]["logs"]["schema"]["arrow"]["fields"][0]["comment"] = "mine"
    assert parse_manifest(json.dumps(document, indent=2).encode()).hash == GOLDEN[0][4]


WORKED = (
    '{"kind":"evm-rpc","network":"devnet","start_block":0,"finalized_blocks_only":false,"tables":{"blocks":{"schema":'
    '{"arrow":{"fields":[{"name":"_block_num","type":"UInt64","nullable":false},{"name":"timestamp","type":'
    '{"Timestamp":["Nanosecond","+00:00"]},"nullable":false}]}},"network":"devnet"},"logs":{"schema":{"arrow":'
    '{"fields":[{"name":"topic0","type":{"FixedSizeBinary":32},"nullable":true}]}},"network":"devnet"}}}'
)
NESTED = (
    '{"kind":"evm-rpc","network":"devnet","start_block":0,"finalized_blocks_only":false,"tables":{"transactions":'
    '{"schema":{"arrow":{"fields":[{"name":"blob_versioned_hashes","type":{"List":{"name":"item","data_type":'
    '{"FixedSizeBinary":32},"nullable":false,"dict_id":0,"dict_is_ordered":false,"metadata":{}}},"nullable":true}]}},'
    '"network":"devnet"}}}'
)


def test_the_worked_example_with_keys_out_of_order_and_defaults_missing() -> None:
    document = {
        "tables": {
            "logs": {
                "network": "devnet",
                "schema": {
                    "arrow": {"fields": [{"nullable": True, "type": {"FixedSizeBinary": 32}, "name": "topic0"}]}
                },
            },
            "blocks": json.loads(WORKED)["tables"]["blocks"],
        },
        "network": "devnet",
        "kind": "evm-rpc",
    }
    manifest = parse_manifest(json.dumps(document).encode())
    assert manifest.canonical_bytes() == WORKED.encode()
    assert len(WORKED) == 418
    assert manifest.hash == "3511e87e9e2ddf687e996630a9382dd13218871a6bda6716921863a045eb80e0"


def test_the_nested_example() -> None:
    short = json.loads(NESTED)
    item = short["tables"]["transactions"]["schema"]["arrow"]["fields"][0]["type"]["List"]
    for default in ("dict_id", "dict_is_ordered", "metadata"):
        del item[default]
    for text in (NESTED, json.dumps(short)):
        manifest = parse_manifest(text.encode())
        assert manifest.canonical_bytes() == NESTED.encode()
        assert manifest.hash == "52404a0ad8fc70dc3d14e41106352e6c4719bd7e3e2538c71bf2b5f85ca77fd4"


def test_other_letters_than_ascii_are_kept() -> None:
    manifest = evm_rpc_manifest("réseau")
    assert "réseau".encode() in manifest.canonical_bytes()
    assert parse_manifest(manifest.canonical_bytes()).hash == manifest.hash


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"kind":"sql"}', "only 'evm-rpc'"),
        ('{"kind":"evm-rpc","tables":{}}', "network must be a non-empty string"),
        ('{"kind":"evm-rpc","network":"","tables":{}}', "network must be a non-empty string"),
        ('{"kind":"evm-rpc","network":"a"}', "tables must be a JSON object"),
        ('{"kind":"evm-rpc","network":"a","tables":{},"start_block":-1}', "start_block"),
        ('{"kind":"evm-rpc","network":"a","tables":{},"start_block":true}', "start_block"),
        ('{"kind":"evm-rpc","network":"a","tables":{},"finalized_blocks_only":1}', "finalized_blocks_only"),
    ],
)
def test_an_invalid_manifest_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidManifest, match=message):
        parse_manifest(text.encode())


def test_bytes_that_are_not_text_are_refused() -> None:
    with pytest.raises(InvalidManifest, match="not JSON"):
        parse_manifest(b"\xff\xfe\xfa")


@pytest.mark.parametrize("table", [{}, {"schema": None}, [1], "x", {"schema": {"arrow": {"fields": [1]}}}])
def test_any_table_is_accepted_and_told_as_a_difference(table: Any) -> None:
    text = json.dumps({"kind": "evm-rpc", "network": "a", "tables": {"logs": table, "extra": {}}})
    told = table_differences(parse_manifest(text.encode()))
    assert [line.split(":")[0] for line in told] == ["table extra", "table blocks", "table transactions", "table logs"]


# -- objects of registered manifests ----------------------------------------------------------------------------------


def test_an_object_is_what_its_hash_says_by_its_canonical_form() -> None:
    manifest = evm_rpc_manifest("devnet")
    spaced = json.dumps(json.loads(manifest.canonical_bytes()) | {"more": 1}, indent=2).encode()
    assert stored_manifest(spaced, manifest.hash).hash == manifest.hash


@pytest.mark.parametrize("place", ["top", "schema"])
def test_an_object_with_fields_that_we_do_not_know_keeps_the_hash_of_its_bytes(place: str) -> None:
    document = json.loads(evm_rpc_manifest("devnet").canonical_bytes())
    (document if place == "top" else document["tables"]["blocks"]["schema"]["arrow"])["more"] = {}
    text = json.dumps(document, separators=(",", ":")).encode()
    sha256 = hashlib.sha256(text).hexdigest()
    found = stored_manifest(text, sha256)
    assert (found, found.hash) == (evm_rpc_manifest("devnet"), sha256)


def test_another_object_is_refused() -> None:
    with pytest.raises(InvalidManifest, match=r"object of manifest 0{64} was changed: it is [0-9a-f]{64} now"):
        stored_manifest(evm_rpc_manifest("devnet").canonical_bytes(), "0" * 64)
