"""An extractor says the same of real blocks, of forged ones and of ones that nobody can verify, on either path."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm import native
from ampd_ray.datasets.evm.checks import check
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts, BlockText, Take
from ampd_ray.datasets.evm.schemas import TABLES
from ampd_ray.datasets.evm.verify import Level
from ampd_ray.errors import AmpdError, DataFault, Unverifiable, ValueOverflow
from ampd_ray.materialize.extract import Extractor
from ampd_ray.materialize.types import Extract, RangeTask, Verified
from ampd_ray.providers.stats import SourceStats
from tests.both_paths import Texts, assert_equal, assert_linked, needs_native, texts
from tests.reference import read_set

Json = dict[str, Any]


class Recorded:
    """A source of recorded blocks, whatever span is asked for."""

    def __init__(self, answers: list[Json], chain: int) -> None:
        self.chain = chain
        self.taken = self.parsed = 0
        self._texts = [texts(answer) for answer in answers]

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def stats(self) -> SourceStats:
        return SourceStats()

    def use(self, share: float) -> None:
        """There is no limit."""

    held = full = False

    async def fetch(
        self, span: Span, take: Take | None = None, go_on: Callable[[], bool] | None = None
    ) -> AsyncGenerator[BlockAndReceipts]:
        for given in self._texts:
            receipts = None if given.receipts is None else msgspec.Raw(given.receipts)
            if take is not None and take(BlockText(given.number, msgspec.Raw(given.block), receipts)):
                self.taken += 1
            else:
                self.parsed += 1
                yield self._checked(given)

    def _checked(self, given: Texts) -> BlockAndReceipts:
        block = BLOCK.decode(given.block)
        assert block is not None
        receipts = None if given.receipts is None else RECEIPTS.decode(given.receipts)
        return check(block, receipts, given.number, "test", chain_id=self.chain)


class Either:
    """Extracts by the compiled path and by the pure one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.taken = 0  # blocks that the compiled path took

    async def extract(
        self, answers: list[Json], chain: int, level: Level, tables: tuple[str, ...] = TABLES, *, wholly: bool = False
    ) -> Extract | AmpdError:
        """What both come to; it has to be the same."""
        task = RangeTask(1, 0, Span(0, len(answers) - 1), tables, "alchemy-1", "test", level, wholly)
        outcomes: list[Extract | AmpdError] = []
        for available in (True, False):
            self._monkeypatch.setattr(native, "available", available)
            source = Recorded(answers, chain)
            extractor = Extractor(partial(_one, source))
            try:
                _, extract = await extractor.extract(task)
                outcomes.append(extract)
            except AmpdError as error:
                outcomes.append(error)
            finally:
                await extractor.close()
            assert available or not source.taken
            self.taken += source.taken
        return same(*outcomes)


def _one(source: Recorded, provider: str, network: str) -> Recorded:
    return source


def same(compiled: Extract | AmpdError, pure: Extract | AmpdError) -> Extract | AmpdError:
    if isinstance(pure, AmpdError):
        assert isinstance(compiled, AmpdError)
        assert (type(compiled), str(compiled), compiled.details) == (type(pure), str(pure), pure.details)
        return pure
    assert isinstance(compiled, Extract)
    assert_equal(compiled.tables, pure.tables)
    assert_linked(compiled.links, pure.links)
    assert compiled.verified is pure.verified
    return pure


@pytest.fixture
def either(chain_data: Path, monkeypatch: pytest.MonkeyPatch) -> Either:
    needs_native()
    return Either(monkeypatch)


def read(folder: Path) -> tuple[list[Json], int]:
    return list(read_set(folder)), int(json.loads((folder / "meta.json").read_text())["chainId"])


VERIFIED = {  # of how many blocks the compiled path takes how many, and whether all can be verified
    "testchain-execution-apis": (55, True),
    "mainnet-forks": (9, True),
    "rpc-polygon": (8, True),
    "polygon-statesync": (1, True),
    "chainstorage-native-base-goerli": (0, True),
    "rpc-ropsten-rosetta": (2, True),
    "rpc-arbitrum": (0, False),
    "rpc-cronos": (4, False),
    "rpc-tempo": (1, False),
}


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("name", VERIFIED)
async def test_either_path_verifies_as_much(chain_data: Path, either: Either, name: str, level: Level) -> None:
    answers, chain = read(chain_data / name)
    taken, wholly = VERIFIED[name]
    extract = await either.extract(answers, chain, level)
    assert isinstance(extract, Extract)
    assert either.taken == taken
    if level is Level.OFF:
        assert extract.verified is Verified.NONE
    else:
        assert extract.verified is (Verified(level) if wholly else Verified.PARTIAL)


async def test_all_tables_are_verified_whichever_are_kept(chain_data: Path, either: Either) -> None:
    answers, chain = read(chain_data / "testchain-execution-apis")
    extract = await either.extract(answers, chain, Level.FULL, ("logs",))
    assert isinstance(extract, Extract)
    assert (extract.verified, list(extract.tables), len(extract.links)) == (Verified.FULL, ["logs"], 55)
    _forge_nonce(next(answer for answer in answers if answer["block"]["transactions"]))
    assert isinstance(await either.extract(answers, chain, Level.ROOTS, ("logs",)), DataFault)


@pytest.mark.parametrize("level", [Level.ROOTS, Level.FULL])
async def test_the_least_of_all_blocks_counts(chain_data: Path, either: Either, level: Level) -> None:
    """Those that verify are taken, and looked at apart from the one that does not."""
    sound, _ = read(chain_data / "mainnet-forks")
    odd, chain = read(chain_data / "rpc-arbitrum")
    answers = sorted([*sound, *odd], key=lambda answer: int(answer["block"]["number"], 16))
    extract = await either.extract(answers, chain, level)
    assert isinstance(extract, Extract)
    assert (either.taken, extract.verified) == (9, Verified.PARTIAL)


@pytest.mark.parametrize("level", [Level.ROOTS, Level.FULL])
async def test_rows_that_do_not_tell_all_are_verified_by_the_answers_on_either(
    chain_data: Path, either: Either, level: Level
) -> None:
    """Receipts with status and root, of which rows have only the first; given types, so that they are taken."""
    answers, chain = read(chain_data / "rpc-ropsten-rosetta")
    for answer in answers:
        for transaction in answer["block"]["transactions"]:
            transaction["type"] = "0x0"
    extract = await either.extract(answers, chain, level)
    assert isinstance(extract, Extract)
    assert (either.taken, extract.verified) == (9, Verified(level))


@pytest.mark.parametrize("name", [name for name, (_, wholly) in VERIFIED.items() if not wholly])
async def test_what_is_wanted_wholly_is_refused_on_either(chain_data: Path, either: Either, name: str) -> None:
    answers, chain = read(chain_data / name)
    assert isinstance(await either.extract(answers, chain, Level.FULL, wholly=True), Unverifiable)


def _forge_nonce(answer: Json) -> None:
    transaction = answer["block"]["transactions"][0]
    transaction["nonce"] = hex(int(transaction["nonce"], 16) + 1)


def _forge_sender(answer: Json) -> None:
    answer["block"]["transactions"][0]["from"] = answer["receipts"][0]["from"] = "0x" + 40 * "a"


def _forge_state_root(answer: Json) -> None:
    answer["block"]["stateRoot"] = "0x" + 64 * "a"


def _forge_log(answer: Json) -> None:
    log = next(log for receipt in answer["receipts"] for log in receipt["logs"])
    log["data"] += "ff"


FORGERIES: dict[str, tuple[Callable[[Json], None], tuple[Level, ...]]] = {
    "nonce": (_forge_nonce, (Level.ROOTS, Level.FULL)),
    "state root": (_forge_state_root, (Level.ROOTS, Level.FULL)),
    "log": (_forge_log, (Level.ROOTS, Level.FULL)),
    "sender": (_forge_sender, (Level.FULL,)),
}


@pytest.mark.parametrize("level", [Level.OFF, Level.ROOTS, Level.FULL])
@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_block_among_many_is_the_same_fault_on_either(
    chain_data: Path, either: Either, forgery: str, level: Level
) -> None:
    answers, chain = read(chain_data / "testchain-execution-apis")
    forge, found_at = FORGERIES[forgery]
    logging = [answer for answer in answers if any(receipt["logs"] for receipt in answer["receipts"] or ())]
    forged = logging[len(logging) // 2]
    forge(forged)
    outcome = await either.extract(answers, chain, level)
    assert either.taken == 55  # as it is plain
    if level in found_at:
        assert isinstance(outcome, DataFault)
        assert outcome.details["block"] == int(forged["block"]["number"], 16)
        assert outcome.details["provider"] == "alchemy-1"
    else:
        assert isinstance(outcome, Extract)


async def test_a_block_that_has_no_row_is_the_same_error_on_either(chain_data: Path, either: Either) -> None:
    answers, chain = read(chain_data / "mainnet-forks")
    answers[4]["block"]["difficulty"] = hex(10**38)
    outcome = await either.extract(answers, chain, Level.OFF)
    assert isinstance(outcome, ValueOverflow)
    assert outcome.details["provider"] == "alchemy-1"
    assert either.taken == 4  # and those after it come too late
