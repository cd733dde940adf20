"""Which level of verification sees a forged field: one value of a real block changed at a time (data.md 9).

``AMPD_RAY_FORGERIES`` says how many (10,000 take some minutes), ``AMPD_RAY_FORGERIES_SEED`` which; ``-s`` shows the
table of what was seen.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.evm.verify import Level, Result, verify_blocks
from tests.forgeries import Forgery, Honest, Tables, forgeries
from tests.reference import read_set

FORGERIES = int(os.environ.get("AMPD_RAY_FORGERIES", "300"))
SEED = int(os.environ.get("AMPD_RAY_FORGERIES_SEED", "5"))
MAX_TRANSACTIONS = 60  # the larger a block, the longer its verification; any has all columns

SETS = (
    "testchain-execution-apis",
    "mainnet-forks",
    "rpc-mainnet",
    "rpc-polygon",
    "polygon-statesync",
    "chainstorage-base-goerli",
    "chainstorage-native-base-goerli",
    "rpc-ropsten-rosetta",
)
NOT_SEEN = {
    "blocks": {"total_difficulty"},
    "transactions": {
        "status",  # beside a state root that was not stored
        *("nonce", "chain_id", "max_fee_per_gas", "max_priority_fee_per_gas"),  # of a deposit, which has none of them
    },
    "logs": {"log_index"},  # as long as it ascends
}
"""What no level can see; and of Bor's state syncs all but what shows that they are such."""

_decoder = msgspec.json.Decoder(BlockAndReceipts)


@pytest.fixture(scope="module")
def honest(chain_data: Path) -> Honest:
    found: Honest = {name: [] for name in SCHEMAS}
    for name in SETS:
        chain_id = int(json.loads((chain_data / name / "meta.json").read_text())["chainId"])
        for answer in read_set(chain_data / name):
            if len(answer["block"]["transactions"]) > MAX_TRANSACTIONS:
                continue
            block = _decoder.decode(msgspec.json.encode(answer))
            tables = decode([block], name)
            for table in SCHEMAS:
                if 0 < tables[table].num_rows < 1000:
                    found[table].append((block, tables, chain_id))
    return found


def seen(forgery: Forgery, tables: Tables, raw: list[BlockAndReceipts] | None, level: Level) -> Result:
    try:
        (verdict,) = verify_blocks(tables, raw, level, forgery.chain_id)
    except ValueError:  # rows of a block that is not there
        return Result.FAIL
    return verdict.result


@pytest.mark.timeout(180 + FORGERIES)
def test_each_level_sees_what_it_is_to_see(honest: Honest) -> None:
    """With the answers at hand `full` misses nothing that a root commits to; from rows alone nothing of it passes."""
    counts: Counter[tuple[str, str, Level, Result]] = Counter()
    missed: Counter[tuple[str, str]] = Counter()
    wrong: list[tuple[Level, Result, Result, Forgery]] = []
    for forgery in forgeries(honest, FORGERIES, SEED):
        kind, tables = forgery.kind(), forgery.tables
        for level in (Level.ROOTS, Level.FULL):
            told = kind in {"under a root", "copied"} or (kind == "hash or sender" and level is Level.FULL)
            inline = seen(forgery, tables, [forgery.answer], level)
            offline = seen(forgery, tables, None, level)
            if told and (inline is not Result.FAIL or offline is Result.PASS):
                wrong.append((level, inline, offline, forgery))
            counts.update([(kind, "inline", level, inline), (kind, "offline", level, offline)])
        if inline is Result.PASS:
            missed[forgery.table, forgery.column] += 1
            if forgery.column not in NOT_SEEN[forgery.table] and not forgery.of_bor():
                wrong.append((level, inline, offline, forgery))
    for (kind, where, level, result), count in sorted(counts.items()):
        print(f"{kind:22} {where:8} {level:6} {result:12} {count:6}")
    print("passed at full, with the answers:", dict(missed.most_common()))
    assert wrong == []
    assert {kind for kind, *_ in counts} == {"under a root", "copied", "hash or sender", "nothing commits to it"}
