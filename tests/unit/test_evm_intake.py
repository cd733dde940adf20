"""Blocks as text and blocks as objects, in any mixture, give the rows that the pure path gives, once and in order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from ampd_ray.datasets.evm import intake, native
from ampd_ray.datasets.evm.decode import Decoded, decode, links
from ampd_ray.datasets.evm.intake import Intake
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, BlockText
from ampd_ray.datasets.evm.schemas import TABLES
from tests.both_paths import Texts, assert_equal, assert_linked, needs_native, plainer, pure, texts
from tests.fakes.evm_blocks import BlockMaker

COUNT = 40
MIXTURES = {  # and the share of texts in each
    "all as text": 1.0,
    "all as objects": 0.0,
    "half": 0.5,
    "mostly text": 0.9,
    "mostly objects": 0.1,
}
Seen = list[tuple[dict[str, pa.Table], Sequence[BlockAndReceipts] | None]]


@pytest.fixture(scope="module")
def chain() -> list[Texts]:
    """Blocks of all types, so many that their rows are decoded in several groups."""
    return [texts(plainer(BlockMaker(number, number % 5).block(number))) for number in range(COUNT)]


@pytest.fixture(params=["compiled", "pure"])
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the compiled path is there."""
    if request.param == "compiled":
        needs_native()
    else:
        monkeypatch.setattr(native, "available", False)
    return native.available


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few blocks make several groups of either path."""
    monkeypatch.setattr("ampd_ray.datasets.evm.decode._GROUP_ROWS", 30)
    monkeypatch.setattr(intake, "_KEPT_BYTES", 40_000)


def as_text(given: Texts) -> BlockText:
    receipts = None if given.receipts is None else msgspec.Raw(given.receipts)
    return BlockText(given.number, msgspec.Raw(given.block), receipts)


def declined(given: Texts) -> BlockText:
    """A text that nobody takes."""
    return BlockText(given.number, msgspec.Raw(b"{}"), None)


def fill(into: Intake, chain: Sequence[Texts], mixture: str, seed: int = 0, *, compiled: bool) -> None:
    chance = random.Random(seed)
    for given in chain:
        if chance.random() < MIXTURES[mixture] and into.take(as_text(given)):
            assert compiled
            continue
        assert not into.take(declined(given))
        into.add(pure(given))


def assert_decoded(decoded: Decoded, chain: Sequence[Texts], tables: Sequence[str] = TABLES) -> None:
    blocks = [pure(given) for given in chain]
    assert_equal(decoded.tables, decode(blocks, "test", tables))
    assert_linked(decoded.links, links(blocks, "test"))


def assert_seen_once(seen: Seen, chain: Sequence[Texts]) -> None:
    """All rows of all tables, in order."""
    blocks = [pure(given) for given in chain]
    for name, expected in decode(blocks, "test").items():
        assert pa.concat_tables([tables[name] for tables, _ in seen]).combine_chunks().equals(expected)
    told = [block for _, some in seen for block in some or ()]
    assert [block.block.number for block in told] == [
        number for tables, some in seen if some for number in map(hex, tables["blocks"]["block_num"].to_pylist())
    ]


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("tables", [TABLES, ("logs",), ("transactions", "blocks"), ()], ids="+".join)
def test_any_mixture_gives_the_same_rows(
    chain: list[Texts], tables: Sequence[str], mixture: str, compiled: bool
) -> None:
    for seed in range(2):
        into = Intake("test", tables)
        fill(into, chain, mixture, seed, compiled=compiled)
        assert_decoded(into.finish(), chain, tables)


def test_texts_are_taken_where_the_compiled_path_is(chain: list[Texts], compiled: bool) -> None:
    into = Intake("test")
    assert into.take(as_text(chain[0])) is compiled


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("tables", [TABLES, ("logs",)], ids="+".join)
def test_no_blocks_are_no_rows(tables: Sequence[str], looked: bool, compiled: bool) -> None:
    seen: Seen = []
    into = Intake("test", tables, _noting(seen, lambda _: True) if looked else None)
    assert_decoded(into.finish(), [], tables)
    assert seen == []


def _noting(seen: Seen, satisfied: Callable[[Any], bool]) -> intake.Look:
    """Notes what it is satisfied with; what comes with the blocks satisfies it anyway."""

    def look(tables: dict[str, pa.Table], blocks: Sequence[BlockAndReceipts] | None) -> bool:
        if blocks is None and not satisfied(tables):
            return False
        seen.append((tables, blocks))
        return True

    return look


@pytest.mark.parametrize("satisfied", ["always", "never", "at times"])
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("tables", [TABLES, ("transactions",)], ids="+".join)
def test_who_looks_sees_all_tables_of_each_block_once_in_order(
    chain: list[Texts], tables: Sequence[str], mixture: str, satisfied: str, compiled: bool
) -> None:
    chance = random.Random(mixture)
    ways: dict[str, Callable[[Any], bool]] = {
        "always": lambda _: True,
        "never": lambda _: False,
        "at times": lambda _: chance.random() < 0.5,
    }
    seen: Seen = []
    into = Intake("test", tables, _noting(seen, ways[satisfied]))
    fill(into, chain, mixture, compiled=compiled)
    assert_decoded(into.finish(), chain, tables)
    assert_seen_once(seen, chain)
    if satisfied == "never" or not compiled:
        assert all(blocks is not None for _, blocks in seen)
    elif mixture == "all as text":
        assert len(seen) > 1
        assert satisfied == "at times" or not any(blocks for _, blocks in seen)


@pytest.mark.parametrize("with_blocks", [False, True])
def test_what_a_look_raises_is_raised_before_any_row_is_out(
    chain: list[Texts], with_blocks: bool, compiled: bool
) -> None:
    def look(tables: dict[str, pa.Table], blocks: Sequence[BlockAndReceipts] | None) -> bool:
        if 7 in tables["blocks"]["block_num"].to_pylist() and (blocks is not None) >= with_blocks:
            raise ZeroDivisionError("block 7")
        return blocks is not None

    def all_of() -> None:
        into = Intake("test", TABLES, look)
        fill(into, chain, "all as text", compiled=compiled)
        into.finish()

    with pytest.raises(ZeroDivisionError, match="block 7"):
        all_of()


def test_texts_are_kept_only_for_who_looks_and_only_until_then(
    chain: list[Texts], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_native()
    for look in (None, _noting([], lambda _: True)):
        into = Intake("test", TABLES, look)
        for given in chain:
            assert into.take(as_text(given))
            assert sum(text.nbytes for text in into._texts) < intake._KEPT_BYTES
            assert bool(into._texts) <= (look is not None)
