"""The native path beside the pure one: what the first accepts, the second must accept, with equal rows and links."""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from ampd_ray.chain.links import BlockLinks
from ampd_ray.datasets.evm import native
from ampd_ray.datasets.evm.checks import check
from ampd_ray.datasets.evm.decode import decode, links
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts

POLYGON = 137


class Texts(NamedTuple):
    """One block as a node answered it."""

    number: int
    block: bytes
    receipts: bytes | None


def texts(answer: Mapping[str, Any], number: int | None = None) -> Texts:
    """The answers ``{"block", "receipts"}`` as compact JSON."""
    block, receipts = (json.dumps(answer[name], separators=(",", ":")).encode() for name in ("block", "receipts"))
    asked = int(answer["block"]["number"], 16) if number is None else number
    return Texts(asked, block, None if answer["receipts"] is None else receipts)


def plainer(answer: dict[str, Any]) -> dict[str, Any]:
    """A made-up block without what no chain has: no types, values of 256 bits, chain ids that do not fit."""
    for tx in answer["block"]["transactions"]:
        tx["value"] = hex(int(tx["value"], 16) % (1 << 128))
        tx.setdefault("type", "0x0")
        for entry in tx.get("authorizationList") or ():
            entry["chainId"] = hex(int(entry["chainId"], 16) % (1 << 64))
    return answer


def pure(given: Texts) -> BlockAndReceipts:
    """The block as the pure path checks it, whatever its chain: Polygon treats some as no other. Raises its errors."""
    block = BLOCK.decode(given.block)
    assert block is not None
    receipts = None if given.receipts is None else RECEIPTS.decode(given.receipts)
    check(block, receipts, given.number, "test", chain_id=POLYGON)
    return check(block, receipts, given.number, "test")


def added(rows: native.Rows, given: Texts) -> bool:
    """Whether the native path takes a block. No byte stands behind its texts that a sanitizer would not notice."""
    return rows.add(given.number, _alone(given.block), None if given.receipts is None else _alone(given.receipts))


def _alone(text: bytes) -> memoryview:
    return np.frombuffer(text, np.uint8).copy().data


def assert_rows(rows: native.Rows, taken: Sequence[Texts]) -> None:
    """``rows`` end with just what the pure path makes of ``taken``; raises its error if it refuses one of them."""
    tables, linked = rows.finish()
    blocks = [pure(one) for one in taken]
    assert_equal(tables, decode(blocks, "test"))
    assert_linked(linked, links(blocks, "test"))


def assert_equal(tables: Mapping[str, pa.Table], expected: Mapping[str, pa.Table]) -> None:
    assert list(tables) == list(expected)
    for name, table in tables.items():
        table.validate(full=True)
        assert table.schema.equals(expected[name].schema, check_metadata=True)
        for column in table.column_names:
            assert table[column].num_chunks == 1
            assert table[column].equals(expected[name][column]), f"{name}.{column}"


def assert_linked(linked: BlockLinks, expected: BlockLinks) -> None:
    assert (linked.numbers.dtype, linked.timestamps.dtype) == (expected.numbers.dtype, expected.timestamps.dtype)
    assert linked.numbers.tolist() == expected.numbers.tolist()
    assert linked.timestamps.tolist() == expected.timestamps.tolist()
    assert (linked.hashes, linked.parents) == (expected.hashes, expected.parents)


def needs_native() -> None:
    """Skip where there can be no extension. Where it could have been built it must be there: else nobody would know."""
    if native.available:
        return
    if os.environ.get(native.OFF) == "1":
        pytest.skip(f"{native.OFF} turns the extension off")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None or not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        pytest.skip("no C compiler, or no Python.h: the extension cannot be built here")
    pytest.fail("the extension is not built: `pip install --no-deps -e .`; AMPD_RAY_PURE=1 does without", pytrace=False)
