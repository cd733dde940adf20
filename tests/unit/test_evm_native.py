"""The native path: what it takes it decodes as the pure path does, and it takes all plain blocks and nothing else."""

from __future__ import annotations

import gc
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import msgspec
import psutil
import pytest

from ampd_ray.datasets.evm import rpc
from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.hashing import EMPTY_ROOT, bloom_of
from ampd_ray.datasets.evm.native import Rows
from ampd_ray.errors import DataFault, ReorgDuringFetch, ValueOverflow
from tests.benchmarks.fuzz_native import FRAGMENTS, Bases, fuzz
from tests.both_paths import Texts, added, assert_rows, needs_native, plainer, pure, texts
from tests.fakes.evm_blocks import BlockMaker
from tests.fakes.places import REPO
from tests.reference import read_set

Json = dict[str, Any]
Spoil = Callable[[Json], object]

OTHER = "0x" + 32 * "0b"
NOBODY = "0x" + 40 * "0"
EMPTY = "0x" + EMPTY_ROOT.hex()

SETS = {  # of how many blocks it takes how many, and why not the others
    "testchain-execution-apis": (55, 55, set()),
    "mainnet-forks": (9, 9, set()),
    "rpc-mainnet": (15, 15, set()),
    "mainnet-era1-00000": (8192, 8192, set()),
    "rpc-polygon": (8, 8, set()),
    "polygon-statesync": (2, 1, {"Transaction: a state sync"}),
    "chainstorage-base-goerli": (1, 0, {"Transaction: type"}),
    "chainstorage-native-base-goerli": (5, 0, {"Transaction: type"}),
    "rpc-arbitrum": (1, 0, {"Transaction: type"}),
    "rpc-cronos": (5, 4, {"Log: logIndex"}),
    "rpc-ropsten-rosetta": (9, 2, {"Transaction: type"}),
    "rpc-tempo": (4, 1, {"Transaction: type", "Transaction: a state sync"}),
}


@pytest.fixture(autouse=True)
def built() -> None:
    needs_native()


def plain(kind: int = 2, number: int = 7) -> Json:
    """A made-up block that the native path takes, with logs in at least two receipts."""
    for seed in range(1000):
        answer = plainer(BlockMaker(seed, kind).block(number))
        if len(answer["receipts"]) > 2 and sum(bool(receipt["logs"]) for receipt in answer["receipts"]) > 1:
            assert added(Rows(), texts(answer))
            return answer
    raise AssertionError("no block has logs")


def rebloomed(answer: Json) -> Json:
    """``answer`` with the bloom that its logs make."""
    logs = [log for receipt in answer["receipts"] for log in receipt["logs"]]
    entries = [bytes.fromhex(entry[2:]) for log in logs for entry in (log["address"], *log["topics"])]
    answer["block"]["logsBloom"] = "0x" + bloom_of(entries).hex()
    return answer


def _set(path: str, value: Any) -> Spoil:
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]

    def spoil(answer: Any) -> None:
        for step in way:
            answer = answer[step]
        answer[last] = answer[last] | value if isinstance(value, dict) and value else value

    return spoil


# -- what it takes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_recorded_blocks_decode_as_on_the_pure_path(chain_data: Path, name: str) -> None:
    rows, taken, declined, blocks = Rows(), [], set(), 0
    for answer in read_set(chain_data / name):
        blocks += 1
        given = texts(answer)
        if added(rows, given):
            assert rows.declined is None
            taken.append(given)
        else:
            declined.add(rows.declined)
    assert (blocks, len(taken), declined) == SETS[name]
    assert_rows(rows, taken)


@pytest.mark.parametrize("kind", range(5))
def test_made_up_blocks_decode_as_on_the_pure_path(kind: int) -> None:
    rows = Rows()
    blocks = [texts(plainer(BlockMaker(seed, kind).block(seed))) for seed in range(200)]
    for given in blocks:
        assert added(rows, given), rows.declined
    assert_rows(rows, blocks)


VARIANTS: dict[str, tuple[int, Spoil]] = {
    "unprotected, with a chain id": (0, _set("block.transactions.1", {"v": "0x1c", "chainId": "0x1"})),
    "protected, with another": (0, _set("block.transactions.1", {"v": "0x26", "chainId": "0x5"})),
    "a parity as v, with a chain id": (0, _set("block.transactions.1", {"v": "0x1", "chainId": "0x5"})),
    "a parity as v, without": (0, _set("block.transactions.1", {"v": "0x0", "chainId": None})),
    "yParity alone": (0, _set("block.transactions.1", {"v": None, "yParity": "0x1", "chainId": None})),
    "lists of other types": (
        0,
        _set(
            "block.transactions.1",
            {
                "accessList": [{"address": NOBODY, "storageKeys": [OTHER, OTHER]}],
                "blobVersionedHashes": [OTHER],
                "authorizationList": [],
            },
        ),
    ),
    "an access list that is null": (1, _set("block.transactions.1", {"accessList": None})),
    "a contract made": (2, _set("block.transactions.1", {"to": None})),
    "an effective price": (2, _set("block.transactions.1", {"gasPrice": "0x1"})),
    "padded": (2, _set("block.transactions.1", {"r": "0x" + 63 * "0" + "5", "nonce": "0x00", "type": "0x02"})),
    "short words": (2, _set("block.transactions.1", {"r": "0x5", "s": "0x0"})),
    "the largest": (
        2,
        _set(
            "block.transactions.1",
            {"value": hex((1 << 128) - 1), "nonce": "0x" + 16 * "f", "maxFeePerGas": hex(10**38 - 1)},
        ),
    ),
    "just above 64 bits": (2, _set("block.transactions.1", {"value": hex(1 << 64), "maxFeePerGas": hex(1 << 64)})),
    "digits of either case": (
        2,
        _set("block.transactions.1", {"input": "0x" + 9 * "aAfF09", "from": "0x" + 10 * "FAde"}),
    ),
    "a parity of both names": (4, _set("block.transactions.1.authorizationList.0", {"yParity": "0x1", "v": "0x1"})),
    "a root beside the status": (2, _set("receipts.1", {"status": "0x0", "root": "0x"})),
    "a root in its place": (0, _set("receipts.1", {"status": None, "root": OTHER})),
    "the last second": (2, _set("block", {"timestamp": hex(((1 << 63) - 1) // 10**9)})),
    "no mix hash, no nonce": (2, _set("block", {"mixHash": None, "nonce": None, "extraData": "0x"})),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_plain_forms_decode_as_on_the_pure_path(name: str) -> None:
    kind, spoil = VARIANTS[name]
    answer = plain(kind)
    spoil(answer)
    rows = Rows()
    assert added(rows, texts(answer)), rows.declined
    assert_rows(rows, [texts(answer)])


def test_blocks_without_transactions() -> None:
    changes = {"transactions": [], "transactionsRoot": EMPTY, "receiptsRoot": EMPTY, "gasUsed": "0x0"}
    answer = {"block": plain()["block"] | changes | {"logsBloom": "0x" + 512 * "0"}, "receipts": None}
    taken = [texts(answer), Texts(8, texts(answer).block.replace(b'"0x7"', b'"0x8"'), b" [ ] ")]
    rows = Rows()
    assert all(added(rows, given) for given in taken)
    assert_rows(rows, taken)
    for spoiled in ({"receiptsRoot": OTHER}, {"gasUsed": "0x1"}, {"logsBloom": "0x" + 511 * "0" + "1"}):
        assert not added(rows, texts(answer | {"block": answer["block"] | spoiled}))
    assert not added(rows, texts(answer | {"receipts": plain()["receipts"]}))


def test_no_blocks_are_empty_tables() -> None:
    assert_rows(Rows(), [])


def test_finishing_leaves_rows_empty_for_the_next_blocks() -> None:
    rows = Rows()
    for kind in (4, 1):
        given = texts(plain(kind))
        assert added(rows, given)
        assert_rows(rows, [given])
    tables, linked = rows.finish()
    assert not len(linked)
    assert not any(len(table) for table in tables.values())


def test_only_the_tables_that_were_asked_for() -> None:
    rows = Rows(["logs"])
    assert added(rows, texts(plain()))
    tables, linked = rows.finish()
    assert (list(tables), len(linked)) == (["logs"], 1)


def test_tables_outlive_what_made_them() -> None:
    given = texts(plain())
    rows = Rows()
    rows.add(*given)
    tables = rows.finish()[0]
    before = tables["transactions"].to_pylist()
    for _ in range(100):
        rows.add(*given)
    del rows
    assert tables["transactions"].to_pylist() == before


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, msgspec.Raw])
def test_texts_of_any_type(wrap: Callable[[bytes], Any]) -> None:
    given = texts(plain())
    assert given.receipts is not None
    assert Rows().add(given.number, wrap(given.block), wrap(given.receipts))


# -- what it declines -------------------------------------------------------------------------------------------------


def _logging(answer: Json, nth: int = 0) -> Json:
    receipts: list[Json] = [receipt for receipt in answer["receipts"] if receipt["logs"]]
    return receipts[nth]


def _log(**fields: Any) -> Spoil:
    return lambda answer: _logging(answer)["logs"][0].update(fields)


def _without_a_log(answer: Json) -> None:
    """Its numbers count on, but the bloom knows it."""
    del _logging(answer, -1)["logs"][-1]


CHECKS: dict[str, Spoil] = {
    "1 another number": _set("block.number", "0x8"),
    "1 no hash": _set("block.hash", None),
    "2 a receipt less": lambda answer: answer["receipts"].pop(),
    "2 a receipt more": lambda answer: answer["receipts"].append(answer["receipts"][-1]),
    "2 no receipts": _set("receipts", []),
    "3 another transaction": _set("receipts.1.transactionHash", OTHER),
    "3 another position": _set("receipts.1.transactionIndex", "0x9"),
    "4 a transaction of another block": _set("block.transactions.1.blockHash", OTHER),
    "4 a receipt of another block": _set("receipts.1.blockHash", OTHER),
    "4 a log of another block": _log(blockHash=OTHER),
    "4 the header of another block": _set("block.hash", OTHER),
    "5 a log of another number": _log(blockNumber="0x8"),
    "5 a log of another transaction": _log(transactionHash=OTHER),
    "5 a log of another position": _log(transactionIndex="0x9"),
    "5 no list of logs": _set("receipts.1.logs", None),
    "6 a log number again": lambda answer: _logging(answer, 1)["logs"][0].update(logIndex="0x0"),
    "6 a log number left out": _log(logIndex="0x1"),
    "7 a log that was removed": _log(removed=True),
    "8 a log less": _without_a_log,
    "8 a bloom that knows less": lambda answer: answer["block"].update(logsBloom="0x" + 512 * "0"),
    "8 a bloom that knows more": lambda answer: answer["block"].update(logsBloom="0x" + 512 * "f"),
    "9 gas that falls": _set("receipts.0.cumulativeGasUsed", "0xffffffff"),
    "9 another sum of gas": _set("block.gasUsed", "0xffffffff"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_block_that_fails_a_check_is_declined(name: str) -> None:
    answer = plain()
    CHECKS[name](answer)
    with pytest.raises((DataFault, ReorgDuringFetch)):
        pure(texts(answer, 7))
    rows = Rows()
    assert not added(rows, texts(answer, 7))
    assert rows.declined is not None


UNUSUAL: dict[str, Spoil] = {  # that the pure path takes, or refuses better
    "a state sync": lambda answer: answer["block"]["transactions"][1].update({"from": NOBODY, "to": NOBODY}),
    "an unknown type": _set("block.transactions.1.type", "0x7e"),
    "no type": _set("block.transactions.1.type", None),
    "a JSON number": _set("block.gasLimit", 5),
    "no access list": lambda answer: answer["block"]["transactions"][1].pop("accessList"),
    "no fee": _set("block.transactions.1.maxFeePerGas", None),
    "no price of a tip": _set("block.transactions.1.maxPriorityFeePerGas", None),
    "no chain": _set("block.transactions.1.chainId", None),
    "no signature": _set("block.transactions.1.r", None),
    "a parity of two minds": lambda answer: answer["block"]["transactions"][1].update(yParity="0x1", v="0x0"),
    "a v of 2": lambda answer: answer["block"]["transactions"][1].update(yParity=None, v="0x2"),
    "a nonce of 65 bits": _set("block.transactions.1.nonce", "0x10000000000000000"),
    "a tip of 10^38": _set("block.transactions.1.maxPriorityFeePerGas", hex(10**38)),
    "a value of 129 bits": _set("block.transactions.1.value", hex(1 << 128)),
    "an r of 257 bits": _set("block.transactions.1.r", hex(1 << 256)),
    "half a byte": _set("block.transactions.1.input", "0x123"),
    "no hex": _set("block.transactions.1.input", "0x1g"),
    "a blank": _set("block.transactions.1.nonce", "0x 1"),
    "a short hash": _set("block.parentHash", "0x" + 63 * "0"),
    "a long hash": _set("block.parentHash", "0x" + 65 * "0"),
    "another case": lambda answer: answer["receipts"][1].update(blockHash=answer["block"]["hash"].upper()),
    "a time too late": _set("block.timestamp", hex((1 << 63) // 10**9 + 1)),
    "a status of 2": _set("receipts.1.status", "0x2"),
    "no status": lambda answer: answer["receipts"][1].update(status=None, root=None),
    "five topics": lambda answer: _logging(answer)["logs"][0].update(topics=5 * [OTHER]) or rebloomed(answer),
    "no topics": lambda answer: _logging(answer)["logs"][0].update(topics=None),
    "a field that no table stores, of another form": _set("block.transactions.1.sourceHash", 5),
    "a quantity that is too long": _set("block.transactions.1.mint", "0x" + 1023 * "0"),
    "hashes only": lambda answer: answer["block"].update(transactions=[OTHER] * len(answer["receipts"])),
    "a list that is null": _set("block.transactions", None),
    "a receipt that is null": _set("receipts.1", None),
    "no block": _set("block", {}),
    "letters of the world": _set("block.extra", "é"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_block_that_is_not_plain_is_declined(name: str) -> None:
    answer = plain()
    UNUSUAL[name](answer)
    whole = {part: json.dumps(answer[part], ensure_ascii=False).encode() for part in answer}
    assert not added(Rows(), Texts(7, whole["block"], whole["receipts"]))


OF_A_TYPE: dict[str, tuple[int, Spoil]] = {  # what another type may do
    "no price": (0, _set("block.transactions.1.gasPrice", None)),
    "no v": (0, lambda answer: answer["block"]["transactions"][1].update(v=None, yParity=None)),
    "no chain": (1, _set("block.transactions.1.chainId", None)),
    "no access list": (1, lambda answer: answer["block"]["transactions"][1].pop("accessList")),
    "no key of an access": (3, _set("block.transactions.1.accessList", [{"address": NOBODY}])),
    "blobs to nobody": (3, _set("block.transactions.1.to", None)),
    "no fee for blobs": (3, _set("block.transactions.1.maxFeePerBlobGas", None)),
    "no blobs": (3, _set("block.transactions.1.blobVersionedHashes", None)),
    "authorizations to nobody": (4, _set("block.transactions.1.to", None)),
    "no authorizations": (4, _set("block.transactions.1.authorizationList", None)),
    "a parity of 2": (4, lambda answer: _authorization(answer).update(yParity="0x2", v=None)),
    "a parity of two names": (4, lambda answer: _authorization(answer).update(yParity="0x1", v="0x0")),
    "a parity of no name": (4, lambda answer: _authorization(answer).update(yParity=None, v=None)),
}


def _authorization(answer: Json) -> Json:
    entry: Json = answer["block"]["transactions"][1]["authorizationList"][0]
    return entry


def test_an_address_is_no_topic_that_begins_like_it() -> None:
    answer = plain()
    for entry in (log for receipt in answer["receipts"] for log in receipt["logs"]):
        entry["topics"] = [entry["address"] + 24 * "0"]
    rows = Rows()
    assert not added(rows, texts(answer))
    rebloomed(answer)
    assert added(rows, texts(answer))
    assert_rows(rows, [texts(answer)])


def test_a_fifth_topic_is_not_even_read() -> None:
    answer, rows = plain(), Rows()
    UNUSUAL["five topics"](answer)
    assert not added(rows, texts(answer))
    assert rows.declined == "Log: topics"


@pytest.mark.parametrize("digit", "/:@Gg` x")
def test_only_hex_digits_are_hex_digits(digit: str) -> None:
    rows, given = Rows(), texts(plain())
    for width in (32, 20, 64 + 16 + 8 + 2):
        for place in range(2 * width):
            spelled = "0x" + place * "0" + digit + (2 * width - place - 1) * "0"
            field = {32: b"parentHash", 20: b"miner"}.get(width, b"extraData")
            block = re.sub(rb'"%s":"0x\w*"' % field, b'"%s":"%s"' % (field, spelled.encode()), given.block)
            assert not added(rows, given._replace(block=block))


@pytest.mark.parametrize("name", OF_A_TYPE)
def test_what_a_type_must_have_and_has_not_is_declined(name: str) -> None:
    kind, spoil = OF_A_TYPE[name]
    answer = plain(kind)
    spoil(answer)
    with pytest.raises((DataFault, ValueOverflow)):
        decode([pure(texts(answer))], "test")
    assert not added(Rows(), texts(answer))


TEXTS: dict[str, Callable[[bytes], bytes]] = {
    "an escape": lambda text: text.replace(b'"blockHash"', b'"block\\u0048ash"', 1),
    "a key twice": lambda text: text.replace(b'"blockHash"', b'"blockHash":null,"blockHash"', 1),
    "a text behind it": lambda text: text + b"{}",
    "a mark before it": lambda text: b"\xef\xbb\xbf" + text,
    "null": lambda _: b"null",
    "nothing": lambda _: b"",
    "another bracket": lambda text: text[:-1] + bytes([text[-1] ^ 0x26]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_another_text_is_declined(name: str) -> None:
    given, spoil = texts(plain()), TEXTS[name]
    assert given.receipts is not None
    assert not added(Rows(), given._replace(block=spoil(given.block)))
    assert not added(Rows(), given._replace(receipts=spoil(given.receipts)))


def test_no_text_is_read_beyond_its_end() -> None:
    given = texts(plain())
    assert given.receipts is not None
    rows = Rows()
    for cut in range(len(given.block)):
        assert not added(rows, given._replace(block=given.block[:cut]))
    for cut in range(len(given.receipts)):
        assert not added(rows, given._replace(receipts=given.receipts[:cut]))


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda fragment: repr(fragment[:20]))
def test_a_field_that_nobody_reads_is_json_all_the_same(fragment: str) -> None:
    given = texts(plain())
    given = given._replace(block=given.block.replace(b"{", b'{"extra": %s ,' % fragment.encode(), 1))
    rows = Rows()
    assert_rows(rows, [given] if added(rows, given) else [])


def test_a_declined_block_leaves_no_trace() -> None:
    good = [texts(plain(kind, number), number) for number, kind in enumerate((0, 4, 3, 1, 2), start=1)]
    assert all(one.receipts for one in good)
    rows = Rows()
    for one in good:
        late = one._replace(receipts=(one.receipts or b"")[:-1] + b",{}]")  # when all rows are there already
        assert not added(rows, late)
        assert added(rows, one)
        assert not added(rows, one._replace(block=one.block.replace(b'"gasUsed":"0x', b'"gasUsed":"0x1')))
    assert_rows(rows, good)


def test_mutants_of_blocks() -> None:
    found = fuzz(count=4_000, seconds=20, seed=1)
    assert min(found["taken"], found["declined"]) > 100


def test_mutants_follow_from_their_seed() -> None:
    assert list(Bases().spoiled(random.Random(3))) == list(Bases().spoiled(random.Random(3)))


# -- how it lives in a process ----------------------------------------------------------------------------------------


def test_it_knows_each_field_that_the_pure_path_types() -> None:
    from ampd_ray.datasets.evm import _native  # only where it is built

    for name, keys in _native.KEYS.items():
        assert keys == dict(_forms(getattr(rpc, f"Rpc{name}"))), name


def _forms(struct: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    for field in msgspec.structs.fields(struct):
        listed = any(getattr(option, "__origin__", None) is list for option in get_args(field.type))
        forms = {rpc.Quantity: "number", str | None: "text", bool | None: "flag"}
        yield field.encode_name, "list" if listed else forms[field.type]


def test_it_reads_a_number_of_64_bits_only() -> None:
    given = texts(plain())
    for number in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            added(Rows(), given._replace(number=number))
    with pytest.raises(TypeError):
        Rows().add(7, given.block.decode(), given.receipts)  # type: ignore[arg-type]


def test_threads_fill_rows_of_their_own_side_by_side() -> None:
    good = [texts(plain(kind, number), number) for number, kind in enumerate((4, 3, 2), start=1)]
    long = [one._replace(block=one.block[:-1] + b',"extra":"%s"}' % (100_000 * b"x")) for one in good]

    def fill(_: int) -> None:
        for _ in range(20):
            rows = Rows()
            assert all(added(rows, one) for one in long)
            assert_rows(rows, long)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(4)))


def test_two_threads_cannot_fill_the_same_rows_at_once() -> None:
    given = texts(plain())
    given = given._replace(block=given.block[:-1] + b',"extra":"%s"}' % (3_000_000 * b"x"))
    rows, taken = Rows(), []

    def fill(_: int) -> None:
        for _ in range(100):
            with suppress(RuntimeError):
                taken.append(added(rows, given))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(4)))
    assert all(taken)
    assert rows._columns.take()[0][0] == len(taken)


def test_what_runs_while_columns_are_handed_over_cannot_add_to_them() -> None:
    """On Python 3.11 a collection, and so any finalizer, may run at each new object; later it runs between calls."""
    blocks = [texts(plain(4, number), number) for number in range(1, 20)]
    rows, late = Rows(), texts(plain(4, 20), 20)
    assert all(added(rows, block) for block in blocks)
    outcomes: list[object] = []

    class Intruder:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            try:
                outcomes.append(rows.add(late.number, late.block, late.receipts))
            except RuntimeError as error:
                outcomes.append(str(error))

    gc.collect()
    thresholds = gc.get_threshold()
    Intruder()
    gc.set_threshold(12)
    try:
        taken = rows._columns.take()
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert outcomes == ["in use by another call" if sys.version_info < (3, 12) else True]
    assert taken[0][0] == len(blocks)
    assert len(memoryview(taken[2][1])) == 32 * len(blocks)


def test_memory_stays_flat_over_ten_thousand_blocks() -> None:
    given = texts(plain(4))
    bad = given._replace(receipts=(given.receipts or b"")[:-1])
    process = psutil.Process()

    def spend(rounds: int) -> int:
        for _ in range(rounds):
            rows = Rows()
            for _ in range(50):
                rows.add(*given)
                rows.add(*bad)
            rows._columns.take()
        return int(process.memory_info().rss)

    before = spend(20)
    assert spend(100) - before < 2 << 20


def test_where_memory_ends_the_rows_so_far_remain() -> None:
    """In a process of its own, whose memory is bounded for a while."""
    subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], check=True, cwd=REPO, timeout=60)


SHORT_OF_MEMORY = """
import resource
from pathlib import Path
from ampd_ray.datasets.evm.native import Rows
from tests.both_paths import added, assert_rows, plainer, texts
from tests.fakes.evm_blocks import BlockMaker

blocks = [texts(plainer(BlockMaker(number, number % 5).block(number))) for number in range(2000)]
taken = [blocks[0]]
rows, failed = Rows(), 0
assert added(rows, blocks[0])
pages = int(Path("/proc/self/statm").read_text().split()[0])
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 20), hard))
for block in blocks[1:]:
    try:
        assert added(rows, block)
        taken.append(block)
    except MemoryError:
        failed += 1
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
assert failed
assert_rows(rows, taken)
"""


def test_a_value_that_overflows_is_the_pure_paths_to_tell() -> None:
    answer = plain()
    answer["block"]["gasLimit"] = hex(1 << 64)
    given = texts(answer)
    assert not added(Rows(), given)
    with pytest.raises(ValueOverflow, match="gasLimit"):
        assert_rows(Rows(), [given])
