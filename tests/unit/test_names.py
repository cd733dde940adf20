"""Names and references (data.md 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ampd_ray.datasets import names
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import InvalidName

HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (names.namespace, ["_", "edge", "1a"], ["", "Edge", "a-b", "a/b", "a\n"]),
        (names.dataset_name, ["eth_rpc", "_x"], ["", "1eth", "Eth", "eth-rpc", "eth\n"]),
        (names.provider_name, ["alchemy_1"], ["", "1a", "a.b"]),
        (names.table_name, ["blocks", "_A$9", "x" * 63], ["", "9a", "$a", "a b", "x" * 64, "é"]),
        (names.network, ["mainnet", "arbitrum-one"], ["", " "]),
        (names.node_id, ["worker", "W-1.a_b"], ["", "1w", "_w", "w w", "w\n", "w/1"]),
        (names.manifest_hash, [HASH], [HASH.upper().replace("0", "A"), HASH[1:], HASH + "\n"]),
        (names.revision, ["dev", "latest", HASH, "1.2.3", "1.0.0-rc.1+b7"], ["", "1.2", "v1.2.3", "01.2.3", "main"]),
    ],
)
def test_names(rule: Callable[[str], str], good: list[str], bad: list[str]) -> None:
    for name in good:
        assert rule(name) == name
    for name in bad:
        with pytest.raises(InvalidName):
            rule(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eth_rpc", DatasetRef("_", "eth_rpc")),
        ("_/eth_rpc", DatasetRef("_", "eth_rpc")),
        ("edge/eth_rpc@1.2.3", DatasetRef("edge", "eth_rpc", "1.2.3")),
        (f"eth_rpc@{HASH}", DatasetRef("_", "eth_rpc", HASH)),
    ],
)
def test_a_reference_is_read_and_written(text: str, expected: DatasetRef) -> None:
    ref = DatasetRef.parse(text)
    assert ref == expected
    assert DatasetRef.parse(str(ref)) == expected


@pytest.mark.parametrize("text", ["", "/", "a/", "/a", "a/b/c", "a@", "a@b@c", "A/b", "a/b@nope"])
def test_an_invalid_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        DatasetRef.parse(text)
