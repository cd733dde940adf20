"""Names and references (data.md 3.3)."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.datasets import names
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import InvalidName, StoreError
from ampd_ray.store.files import LocalStore

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
        (names.object_name, ["000000000-0a.parquet", "a b", "..x", "é"], ["", ".", "..", "a/b", "/a", "a\\b", "a\n"]),
        (names.directory, ["_/a/b/c", "a"], ["", "/a", "a/", "a//b", "a/../b", "..", "./a", ".a/b", "a\x00"]),
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


TEXT = st.text() | st.lists(st.sampled_from(["..", ".", "", "a", "\\", "\0", "~"]), max_size=6).map("/".join)


@given(TEXT, TEXT)
def test_what_rows_call_a_file_is_in_the_directory_that_they_call_its(directory: str, name: str) -> None:
    """Whatever a row says, it is refused, or leads to a file of its own directory and by one way only."""
    try:
        path = f"/data/{names.directory(directory)}/{names.object_name(name)}"
    except InvalidName:
        return
    assert os.path.normpath(path) == path
    assert posixpath.dirname(path) == f"/data/{directory}"
    assert path.isprintable()


@given(TEXT)
def test_a_store_finds_no_way_out_of_its_directory(path: str) -> None:
    store = LocalStore(Path("/data"))
    try:
        found = store._path(path)
    except StoreError:
        return
    assert os.path.normpath(found).startswith("/data/")
