"""All real chain data through the whole system, twice, and back: committed rows equal a plain reference, and blocks
rebuilt from the Parquet files alone hash to what their headers promise.

Where less than everything can be rebuilt from three tables, ``EXPECTED`` says so:

* OP stack: the envelope of a deposit needs fields that no table has, so the roots of its block stay open;
* Arbitrum: the same for its own types;
* Ropsten: seven answers give each receipt a status *and* a root. Only the status is stored (data.md 1.4.2), but the
  trie has the root: with the answers' roots put back, these blocks hash right too;
* Cronos and Tempo do not hash as Ethereum does: their rows are compared, nothing is rebuilt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.committed import check_file, rows_of, stretches
from tests.consensus import rebuild
from tests.end_to_end.extraction import Extraction, Source, by_backfill, by_worker
from tests.fakes.places import CHAIN_DATA
from tests.fakes.replay import replay
from tests.reference import Row, read_set, reference_rows
from tests.servers import Server

pytestmark = pytest.mark.timeout(600)  # the first test of each way waits for its whole extraction

Rows = dict[str, list[Row]]

# What can be rebuilt from files: block hashes, transactions roots, receipts roots, transaction hashes.
EXPECTED = {
    "testchain-execution-apis": (55, 55, 55, 249),
    "mainnet-era1-00000": (8192, 8192, 8192, 0),
    "mainnet-forks": (9, 9, 9, 467),
    "rpc-mainnet": (15, 15, 15, 864),
    "rpc-polygon": (8, 8, 8, 578),
    "polygon-statesync": (2, 2, 2, 107),
    "chainstorage-base-goerli": (1, 0, 0, 49),
    "chainstorage-native-base-goerli": (5, 0, 0, 6),
    "rpc-arbitrum": (1, 0, 0, 4),
    "rpc-ropsten-rosetta": (9, 9, 2, 13),
}
ROWS_ONLY = ("rpc-cronos", "rpc-tempo")
PARTLY = ("rpc-arbitrum", *ROWS_ONLY)  # its own transaction types have no known encoding; nor have the others' headers

WAYS = ("backfilled", "deployed")
ALL = [(way, name) for way in WAYS for name in (*EXPECTED, *ROWS_ONLY)]


@pytest.fixture(scope="module")
def sources(chain_data: Path) -> Iterator[list[Source]]:
    """A replay server for each set."""
    with ExitStack() as servers:
        yield [
            Source(name, servers.enter_context(replay(name)), _stretches(answers(name)))
            for name in (*EXPECTED, *ROWS_ONLY)
        ]


def answers(name: str) -> list[dict[str, Any]]:
    """The recorded answers of a set, in block order."""
    return sorted(read_set(CHAIN_DATA / name), key=_number)


def _number(answer: dict[str, Any]) -> int:
    return int(answer["block"]["number"], 16)


def _stretches(recorded: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """The runs of consecutive blocks."""
    found: list[tuple[int, int]] = []
    for number in map(_number, recorded):
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


@pytest.fixture(scope="module")
def backfilled(sources: list[Source], tmp_path_factory: pytest.TempPathFactory) -> Extraction:
    """By ``ampd backfill``, on the embedded Postgres of a solo environment."""
    return by_backfill(sources, tmp_path_factory.mktemp("solo"))


@pytest.fixture(scope="module")
def deployed(
    sources: list[Source],
    tmp_path_factory: pytest.TempPathFactory,
    system_15: Server,
) -> Extraction:
    """By ``ampd worker`` and ``ampd deploy --verify-full``, on the system's Postgres 15."""
    url = system_15.migrate(system_15.create_database("template0"))
    return by_worker(sources, tmp_path_factory.mktemp("node"), url)


@pytest.fixture(scope="module", params=WAYS)
def extraction(request: pytest.FixtureRequest) -> Extraction:
    """Each way in turn."""
    found: Extraction = request.getfixturevalue(request.param)
    return found


def test_what_the_database_says_is_what_is_on_disk(extraction: Extraction) -> None:
    """Every file is canonical, complete by itself and as its rows say; no other file lies about."""
    for file in extraction.files:
        assert file.canonical
        check_file(file)
    rows = Counter[str]()
    for file in extraction.files:
        rows[file.table] += file.row_count
    print(f"{extraction.jobs} jobs, {len(extraction.files)} files, {dict(rows)}, {extraction.seconds:.0f} s")
    on_disk = set(extraction.data_dir.rglob("*.parquet"))
    assert on_disk == {file.path for file in extraction.files}


@pytest.mark.parametrize(("extraction", "name"), ALL, indirect=["extraction"])
def test_rows_equal_the_reference(extraction: Extraction, name: str) -> None:
    recorded = answers(name)
    files = extraction.of(name)
    expected, rows = reference_rows(recorded), rows_of(files)
    for table in ("blocks", "transactions", "logs"):
        assert stretches([file for file in files if file.table == table]) == _stretches(recorded)
        assert rows[table] == expected[table], f"{table} of {name}"


@pytest.mark.parametrize("name", [*EXPECTED, *ROWS_ONLY])
def test_each_file_says_how_far_it_was_verified(backfilled: Extraction, deployed: Extraction, name: str) -> None:
    assert {file.verified for file in backfilled.of(name)} == {"none"}
    assert {file.verified for file in deployed.of(name)} == {"partial" if name in PARTLY else "full"}


@pytest.mark.parametrize("name", EXPECTED)
def test_blocks_rebuilt_from_the_files_hash_to_their_headers(extraction: Extraction, name: str) -> None:
    assert _rebuilt(rows_of(extraction.of(name))) == EXPECTED[name]


def test_with_the_roots_of_the_answers_ropsten_rebuilds_too(extraction: Extraction) -> None:
    name = "rpc-ropsten-rosetta"
    roots = {
        receipt["transactionHash"]: receipt["root"]
        for answer in answers(name)
        for receipt in answer["receipts"]
        if receipt.get("root")
    }
    rows = rows_of(extraction.of(name))
    for tx in rows["transactions"]:
        if root := roots.get("0x" + tx["tx_hash"].hex()):
            tx["state_root"] = bytes.fromhex(root[2:])
    assert _rebuilt(rows) == (9, 9, 9, 13)


def _rebuilt(rows: Rows) -> tuple[int, int, int, int]:
    """How many blocks hash right, how many of their roots do, and how many transactions."""
    of_block: dict[str, dict[int, list[Row]]] = {}
    for table in ("transactions", "logs"):
        of_block[table] = defaultdict(list)
        for row in rows[table]:
            of_block[table][row["block_num"]].append(row)
    right: Counter[str] = Counter()
    for block in rows["blocks"]:
        transactions = of_block["transactions"][block["block_num"]]
        found = rebuild(block, transactions, of_block["logs"][block["block_num"]])
        right["block"] += found.block_hash == block["hash"]
        right["transactions"] += found.transactions_root == block["transactions_root"]
        right["receipts"] += found.receipts_root == block["receipt_root"]
        right["hashes"] += sum(found.transaction_hashes.get(tx["tx_index"]) == tx["tx_hash"] for tx in transactions)
    return right["block"], right["transactions"], right["receipts"], right["hashes"]
