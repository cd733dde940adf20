"""The consistency checks between a block and its receipts (data.md 2.3)."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ampd_ray.datasets.evm.checks import check, needs_receipts
from ampd_ray.datasets.evm.hashing import EMPTY_ROOT, bloom_of
from ampd_ray.datasets.evm.quirks import Level
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts, RpcBlock
from ampd_ray.errors import DataFault, ReorgDuringFetch
from tests.reference import read_set

Answer = dict[str, Any]

HASH = "0x" + "0a" * 32
OTHER = "0x" + "0b" * 32
ADDRESS = "0x" + "0c" * 20
EMPTY = "0x" + EMPTY_ROOT.hex()


def log(tx: int, index: int) -> Answer:
    return {
        "address": ADDRESS,
        "topics": [HASH],
        "data": "0x",
        "blockNumber": "0x7",
        "blockHash": HASH,
        "transactionHash": f"0x{tx:064x}",
        "transactionIndex": hex(tx),
        "logIndex": hex(index),
        "removed": False,
    }


def sound() -> Answer:
    """Three transactions with two, none and one logs."""
    logs = [[log(0, 0), log(0, 1)], [], [log(2, 2)]]
    bloom = bloom_of([bytes.fromhex(ADDRESS[2:]), bytes.fromhex(HASH[2:])])
    return {
        "block": {
            "number": "0x7",
            "hash": HASH,
            "transactionsRoot": OTHER,
            "receiptsRoot": OTHER,
            "logsBloom": "0x" + bloom.hex(),
            "gasUsed": "0x300",
            "transactions": [{"hash": f"0x{i:064x}", "blockHash": HASH, "transactionIndex": hex(i)} for i in range(3)],
        },
        "receipts": [
            {
                "transactionHash": f"0x{i:064x}",
                "transactionIndex": hex(i),
                "blockHash": HASH,
                "cumulativeGasUsed": hex(0x100 * (i + 1)),
                "logs": logs[i],
            }
            for i in range(3)
        ],
    }


def empty(**changes: Any) -> Answer:
    bloom = "0x" + "00" * 256
    header = {"number": "0x7", "hash": HASH, "logsBloom": bloom, "gasUsed": "0x0", "transactions": []}
    return {"block": header | {"transactionsRoot": EMPTY, "receiptsRoot": EMPTY} | changes, "receipts": None}


def run(answer: Answer, level: Level = "strict") -> BlockAndReceipts:
    return check(block_of(answer), RECEIPTS.decode(json.dumps(answer["receipts"])), 7, "devnet", level)


def block_of(answer: Answer) -> RpcBlock:
    block = BLOCK.decode(json.dumps(answer["block"]))
    assert block is not None
    return block


def test_a_sound_block_passes_and_its_receipts_come_in_order() -> None:
    answer = sound()
    answer["receipts"].reverse()
    checked = run(answer)
    assert [receipt.transaction_index for receipt in checked.receipts] == ["0x0", "0x1", "0x2"]


@pytest.mark.parametrize("level", ["strict", "basic"])
def test_other_spellings_of_the_same_values_pass(level: Level) -> None:
    answer = sound()
    answer["block"]["hash"] = HASH.upper().replace("0X", "0x")
    answer["block"]["number"] = 7
    answer["receipts"][0]["transactionIndex"] = "0x00"
    answer["receipts"][0]["logs"][1]["logIndex"] = 1
    run(answer, level)


def test_an_empty_block_needs_no_receipts() -> None:
    assert not needs_receipts(block_of(empty()))
    assert not needs_receipts(block_of(empty()), "basic")
    assert run(empty()).receipts == []
    assert needs_receipts(block_of(sound()))


@pytest.mark.parametrize("root", ["transactionsRoot", "receiptsRoot"])
def test_a_block_that_lost_its_body_is_refused_where_roots_count(root: str) -> None:
    answer = empty(**{root: OTHER})
    with pytest.raises(DataFault, match="lost the body"):
        run(answer)
    assert needs_receipts(block_of(answer), "basic")
    run(answer | {"receipts": []}, "basic")
    with pytest.raises(DataFault, match="no receipts"):
        run(answer | {"receipts": None}, "basic")


def change(*path: Any, to: Any) -> Callable[[Answer], None]:
    def apply(answer: Answer) -> None:
        target: Any = answer
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = to

    return apply


def drop(*path: Any) -> Callable[[Answer], None]:
    def apply(answer: Answer) -> None:
        target: Any = answer
        for step in path[:-1]:
            target = target[step]
        del target[path[-1]]

    return apply


R0_LOGS = ("receipts", 0, "logs")

ALWAYS = [
    (change("block", "number", to="0x8"), 1, DataFault),
    (change("block", "number", to=None), 1, DataFault),
    (change("block", "hash", to=None), 1, DataFault),
    (drop("receipts", 1), 2, DataFault),
    (change("receipts", to=None), 2, DataFault),
    (change("receipts", to=[]), 2, DataFault),
    (change("receipts", 1, to=None), 2, DataFault),
    (change("receipts", 1, "transactionHash", to=OTHER), 3, DataFault),
    (change("receipts", 1, "transactionHash", to=None), 3, DataFault),
    (change("receipts", 1, "blockHash", to=OTHER), 4, ReorgDuringFetch),
    (change("block", "transactions", 1, "blockHash", to=OTHER), 4, ReorgDuringFetch),
    (change(*R0_LOGS, 0, "blockHash", to=OTHER), 4, ReorgDuringFetch),
    (change(*R0_LOGS, 0, "blockHash", to=None), 4, DataFault),
    (change(*R0_LOGS, 0, "blockNumber", to="0x8"), 5, DataFault),
    (change(*R0_LOGS, 0, "transactionHash", to=OTHER), 5, DataFault),
    (change(*R0_LOGS, 0, "transactionIndex", to="0x1"), 5, DataFault),
    (change(*R0_LOGS, to=None), 5, DataFault),
    (change(*R0_LOGS, 1, "removed", to=True), 7, ReorgDuringFetch),
]
STRICT = [
    (change(*R0_LOGS, 1, "logIndex", to="0x0"), 6, DataFault),
    (change(*R0_LOGS, 1, "logIndex", to=None), 6, DataFault),
    (drop(*R0_LOGS, 0), 6, DataFault),
    (change("block", "logsBloom", to="0x" + "00" * 256), 8, DataFault),
    (change(*R0_LOGS, 0, "topics", to=[OTHER]), 8, DataFault),
    (change(*R0_LOGS, 0, "topics", to=["0xz"]), 8, DataFault),
    (change("receipts", 1, "cumulativeGasUsed", to="0xff"), 9, DataFault),
    (change("receipts", 2, "cumulativeGasUsed", to="0x301"), 9, DataFault),
    (change("block", "gasUsed", to=None), 9, DataFault),
]


@pytest.mark.parametrize("level", ["strict", "basic"])
@pytest.mark.parametrize(("spoil", "number", "error"), ALWAYS)
def test_a_contradiction_is_found_at_both_levels(
    spoil: Callable[[Answer], None], number: int, error: type[Exception], level: Level
) -> None:
    answer = sound()
    spoil(answer)
    with pytest.raises(error) as caught:
        run(answer, level)
    assert type(caught.value) is error
    details = caught.value.details  # type: ignore[attr-defined]
    assert (details["check"], details["block"], details["network"]) == (number, 7, "devnet")
    assert str(caught.value).startswith("devnet block 7: ")


@pytest.mark.parametrize(
    ("transactions", "receipts", "told"),
    [(3, 1, "1 receipt for 3 transactions"), (1, 0, "0 receipts for 1 transaction")],
)
def test_missing_receipts_are_counted_in_words(transactions: int, receipts: int, told: str) -> None:
    answer = sound()
    answer["block"]["transactions"] = answer["block"]["transactions"][:transactions]
    answer["receipts"] = answer["receipts"][:receipts]
    with pytest.raises(DataFault, match=f"{told}$"):
        run(answer)


@pytest.mark.parametrize(("spoil", "number", "error"), STRICT)
def test_a_contradiction_that_only_strict_looks_for(
    spoil: Callable[[Answer], None], number: int, error: type[Exception]
) -> None:
    answer = sound()
    spoil(answer)
    with pytest.raises(error) as caught:
        run(answer)
    assert caught.value.details["check"] == number  # type: ignore[attr-defined]


def test_lost_logs_show_in_the_bloom() -> None:
    answer = sound()
    for receipt in answer["receipts"]:
        receipt["logs"] = []
    with pytest.raises(DataFault, match="logsBloom"):
        run(answer)
    run(answer, "basic")


def test_basic_takes_gaps_in_the_numbering_but_no_reordering() -> None:
    answer = sound()
    answer["receipts"][2]["logs"][0]["logIndex"] = "0x9"
    run(answer, "basic")
    answer["receipts"][2]["logs"][0]["logIndex"] = "0x1"
    with pytest.raises(DataFault, match="reordered or repeated"):
        run(answer, "basic")


# -- real chains ------------------------------------------------------------------------------------------------

STRICT_SETS = [
    "testchain-execution-apis",
    "mainnet-forks",
    "rpc-mainnet",
    "rpc-polygon",
    "polygon-statesync",
    "chainstorage-base-goerli",
    "chainstorage-native-base-goerli",
    "rpc-arbitrum",
    "rpc-ropsten-rosetta",
    "rpc-tempo",
]


@pytest.mark.parametrize("name", STRICT_SETS)
def test_real_blocks_pass_strictly(chain_data: Path, name: str) -> None:
    decoder = msgspec.json.Decoder(BlockAndReceipts)
    chain_id = int(json.loads((chain_data / name / "meta.json").read_text())["chainId"])
    for answer in read_set(chain_data / name):
        one = decoder.decode(json.dumps(answer))
        number = int(answer["block"]["number"], 16)
        for level in ("strict", "basic"):
            assert check(one.block, one.receipts, number, name, level, chain_id).receipts == one.receipts


def test_skipped_log_numbers_need_basic(chain_data: Path) -> None:
    answers = {int(one["block"]["number"], 16): one for one in read_set(chain_data / "rpc-cronos")}
    for number, answer in answers.items():
        block, receipts = block_of(answer), RECEIPTS.decode(json.dumps(answer["receipts"]))
        check(block, receipts, number, "cronos", "basic")
    answer = answers[11446765]
    with pytest.raises(DataFault, match="logIndex does not count"):
        check(block_of(answer), RECEIPTS.decode(json.dumps(answer["receipts"])), 11446765, "cronos", "strict")


def test_a_lost_log_of_a_real_block_is_found(chain_data: Path) -> None:
    for answer in read_set(chain_data / "mainnet-forks"):
        spoiled = copy.deepcopy(answer)
        with_logs = [receipt for receipt in spoiled["receipts"] if receipt["logs"]]
        if not with_logs:
            continue
        with_logs[-1]["logs"] = []
        receipts = RECEIPTS.decode(json.dumps(spoiled["receipts"]))
        number = int(answer["block"]["number"], 16)
        with pytest.raises(DataFault):
            check(block_of(spoiled), receipts, number, "mainnet", "strict")
