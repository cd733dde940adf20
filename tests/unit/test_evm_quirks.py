"""Which rules a chain may break, by name and with a reason; every other chain is held to all of them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.datasets.evm.checks import check, needs_receipts
from ampd_ray.datasets.evm.hashing import EMPTY_ROOT, bloom_of
from ampd_ray.datasets.evm.quirks import CHAINS, STATE_SYNCED, Level, Rule, demanded, state_sync_hash
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts, RpcBlock
from ampd_ray.errors import DataFault
from tests.fakes.evm_blocks import BlockMaker, Json
from tests.reference import read_set

UNKNOWN_CHAIN = 987_654_321
CRONOS, ERA, HYPER = 25, 324, 999
NOBODY = "0x" + "00" * 20


def sound(kind: int = 2) -> Json:
    """A made-up block with logs that all checks pass."""
    maker = BlockMaker(kind, kind)
    made = (maker.block(7) for _ in range(100))
    return next(block for block in made if sum(len(receipt["logs"]) > 1 for receipt in block["receipts"]) > 1)


def block_of(answer: Json) -> RpcBlock:
    block = BLOCK.decode(json.dumps(answer["block"]))
    assert block is not None
    return block


def run(answer: Json, level: Level = "strict", chain_id: int | None = None) -> BlockAndReceipts:
    receipts = RECEIPTS.decode(json.dumps(answer["receipts"]))
    return check(block_of(answer), receipts, int(answer["block"]["number"], 16), "made-up", level, chain_id)


def logs_of(answer: Json) -> list[Json]:
    return [log for receipt in answer["receipts"] for log in receipt["logs"]]


def rebloom(answer: Json, *more: bytes) -> None:
    """Make the header's bloom that of the logs, and of ``more``."""
    entries = [bytes.fromhex(entry[2:]) for log in logs_of(answer) for entry in (log["address"], *log["topics"])]
    answer["block"]["logsBloom"] = "0x" + bloom_of([*entries, *more]).hex()


def body_lost(answer: Json) -> None:
    answer["block"] |= {"transactions": [], "logsBloom": "0x" + "00" * 256, "gasUsed": "0x0"}
    answer["receipts"] = []


def shifted(answer: Json) -> None:
    for index, receipt in enumerate(answer["receipts"]):
        for place in (receipt, *receipt["logs"]):
            place["transactionIndex"] = hex(index + 1)


def numbers_skipped(answer: Json) -> None:
    for index, log in enumerate(logs_of(answer)):
        log["logIndex"] = hex(2 * index)


def log_lost(answer: Json) -> None:
    with_logs = [receipt for receipt in answer["receipts"] if receipt["logs"]]
    del with_logs[-1]["logs"][-1]


def log_invented(answer: Json) -> None:
    last = logs_of(answer)[-1]
    last["topics"] = ["0x" + "77" * 32]
    entries = [log for log in logs_of(answer) if log is not last]
    known = [bytes.fromhex(entry[2:]) for log in entries for entry in (log["address"], *log["topics"])]
    answer["block"]["logsBloom"] = "0x" + bloom_of([*known, bytes.fromhex(last["address"][2:])]).hex()


def gas_of_others(answer: Json) -> None:
    answer["block"]["gasUsed"] = hex(int(answer["block"]["gasUsed"], 16) + 1)


SPOILED = {
    Rule.EMPTY_ROOTS: (body_lost, 2),
    Rule.POSITIONS: (shifted, 3),
    Rule.LOG_NUMBERS: (numbers_skipped, 6),
    Rule.LOGS_COMPLETE: (log_lost, 8),
    Rule.LOGS_KNOWN: (log_invented, 8),
    Rule.GAS: (gas_of_others, 9),
}


@pytest.mark.parametrize("rule", Rule)
def test_each_rule_is_demanded_of_a_chain_that_is_not_known(rule: Rule) -> None:
    spoil, number = SPOILED[rule]
    answer = sound()
    run(answer)
    spoil(answer)
    for chain_id in (None, 1, 137, UNKNOWN_CHAIN):
        with pytest.raises(DataFault) as caught:
            run(answer, chain_id=chain_id)
        assert (caught.value.details["rule"], caught.value.details["check"]) == (rule.name, number)
    run(answer, "basic")


@pytest.mark.parametrize(("chain_id", "rule"), [(id_, rule) for id_, chain in CHAINS.items() for rule in chain.breaks])
def test_a_chain_may_break_what_is_listed_for_it(chain_id: int, rule: Rule) -> None:
    answer = sound()
    SPOILED[rule][0](answer)
    run(answer, chain_id=chain_id)


@pytest.mark.parametrize(
    ("chain_id", "rule"), [(id_, rule) for id_, chain in CHAINS.items() for rule in Rule if rule not in chain.breaks]
)
def test_a_chain_is_held_to_all_other_rules(chain_id: int, rule: Rule) -> None:
    answer = sound()
    SPOILED[rule][0](answer)
    with pytest.raises(DataFault) as caught:
        run(answer, chain_id=chain_id)
    assert caught.value.details["rule"] == rule.name


def test_every_entry_says_why() -> None:
    assert all(chain.name and all(chain.breaks.values()) for chain in CHAINS.values())
    assert demanded("strict", UNKNOWN_CHAIN) == demanded("strict") == frozenset(Rule)
    assert demanded("basic", CRONOS) == demanded("basic") == frozenset()
    assert demanded("strict", CRONOS) < frozenset(Rule)


def test_receipts_are_asked_for_where_a_chain_has_no_roots() -> None:
    answer = sound()
    assert needs_receipts(block_of(answer))
    body_lost(answer)
    assert needs_receipts(block_of(answer), "strict", ERA)
    assert not needs_receipts(block_of(answer), "strict", UNKNOWN_CHAIN)
    run(answer, chain_id=ERA)
    answer["block"] |= dict.fromkeys(("transactionsRoot", "receiptsRoot"), "0x" + EMPTY_ROOT.hex().upper())
    assert not needs_receipts(block_of(answer), "strict", ERA)
    run(answer)


@pytest.mark.parametrize("changes", [{"gasUsed": "0x1"}, {"logsBloom": "0x" + "00" * 255 + "01"}, {"logsBloom": "0x"}])
def test_a_block_without_transactions_has_no_gas_and_no_bloom(changes: Json) -> None:
    answer = sound()
    body_lost(answer)
    answer["block"] |= dict.fromkeys(("transactionsRoot", "receiptsRoot"), "0x" + EMPTY_ROOT.hex())
    for spelled in ("0x0", "0x00", 0):
        run(answer | {"block": answer["block"] | {"gasUsed": spelled}})
    with pytest.raises(DataFault):
        run(answer | {"block": answer["block"] | changes})


@pytest.mark.parametrize("index", [None, "0x00", 0])
def test_a_receipt_without_logs_need_not_say_its_position(index: Any) -> None:
    answer = sound()
    log = answer["receipts"][0]
    log["transactionIndex"] = index
    for entry in log["logs"]:
        entry["transactionIndex"] = index
    run(answer)


def test_basic_and_strict_agree_on_what_is_not_a_number() -> None:
    answer = sound()
    answer["receipts"][0]["cumulativeGasUsed"] = "much"
    with pytest.raises(DataFault, match="cumulativeGasUsed of receipt 0 is not a quantity"):
        run(answer)


# -- state syncs ------------------------------------------------------------------------------------------------


def state_sync(answer: Json, tx_hash: str, **changes: Any) -> None:
    """Append the transaction in which Bor lists state syncs: it has a log, but no gas."""
    block = answer["block"]
    place = {"blockHash": block["hash"], "blockNumber": block["number"]}
    place["transactionIndex"] = hex(len(block["transactions"]))
    transaction = {"hash": tx_hash, "type": "0x0", "from": NOBODY, "to": NOBODY, **place, **changes}
    own = place | {"transactionHash": tx_hash}
    log = own | {"address": NOBODY, "topics": ["0x" + "99" * 32], "data": "0x", "logIndex": hex(len(logs_of(answer)))}
    block["transactions"].append(transaction)
    answer["receipts"].append(own | {"cumulativeGasUsed": "0x0", "status": "0x1", "logs": [log]})


@pytest.mark.parametrize("spell", [str, str.upper])
def test_the_state_syncs_of_polygon_are_in_neither_bloom_nor_gas(spell: Any) -> None:
    answer = sound()
    synthetic = state_sync_hash(7, bytes.fromhex(answer["block"]["hash"][2:]))
    state_sync(answer, spell("0x" + synthetic.hex()))
    for chain_id in STATE_SYNCED:
        run(answer, chain_id=chain_id)
    for other in (None, 1, UNKNOWN_CHAIN):  # there it would be a log that anybody can make up
        with pytest.raises(DataFault, match="logsBloom"):
            run(answer, chain_id=other)


def test_no_other_transaction_is_taken_for_one() -> None:
    answer = sound()
    state_sync(answer, "0x" + "88" * 32)
    with pytest.raises(DataFault):
        run(answer, chain_id=137)
    canonical = sound()
    state_sync(canonical, "0x" + "88" * 32, type="0x7f")
    canonical["receipts"][-1]["cumulativeGasUsed"] = canonical["block"]["gasUsed"]
    rebloom(canonical)
    run(canonical, chain_id=137)


# -- real chains ------------------------------------------------------------------------------------------------


def test_cronos_passes_with_its_quirks_and_not_without(chain_data: Path) -> None:
    broken: set[str] = set()
    for answer in read_set(chain_data / "rpc-cronos"):
        run(answer, chain_id=CRONOS)
        try:
            run(answer)
        except DataFault as fault:
            broken.add(str(fault.details["rule"]))
    assert broken == {"LOG_NUMBERS"}


def test_what_cronos_left_in_its_bloom_is_found_elsewhere(chain_data: Path) -> None:
    answers = {int(answer["block"]["number"], 16): answer for answer in read_set(chain_data / "rpc-cronos")}
    answer = answers[11_446_765]
    indexes = [int(log["logIndex"], 16) for log in logs_of(answer)]
    assert [later - earlier for earlier, later in pairwise(indexes) if later != earlier + 1] == [3]
    for index, log in enumerate(logs_of(answer)):
        log["logIndex"] = hex(index)
    with pytest.raises(DataFault, match="logs are missing"):
        run(answer)
    run(answer, chain_id=CRONOS)
