"""Recorded answers of real nodes, spoiled step by step: every choice is a number, so a mutant is small and repeatable.

A :class:`Seed` is one block with its receipts as a node answered them. Steps change the JSON values first, then the
text; ``mutant(seed, steps)`` is the bytes of both answers.
"""

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

BLOCK_ID, RECEIPTS_ID = 1, 2

SETS = {  # and how many blocks of each: all kinds of transactions, receipts and dialects, in few bytes
    "testchain-execution-apis": 20,
    "mainnet-forks": 1,
    "rpc-mainnet": 2,
    "chainstorage-native-base-goerli": 3,
    "rpc-arbitrum": 1,
    "rpc-polygon": 1,
    "rpc-cronos": 2,
    "rpc-tempo": 2,
    "rpc-ropsten-rosetta": 3,
}
MAX_SEED_BYTES = 24_000

DEEP: Any = []
for _ in range(60):
    DEEP = [DEEP]
ODD: list[Any] = [
    *(None, True, False, "", "0x", "0x0", "0x1", "0X1", "0x01", "0x00", 0, 1, 2, 4, 27, -1, 1.5, 1e300, [], {}, DEEP),
    *("0x7e", "0x4", "0x3", "0x2", "0x80000000", "0xffffffff", "0x100000000", "0xffffffffffffffff", 1 << 64, 1 << 256),
    *("0x1" + 16 * "0", "0x" + 32 * "f", "0x4b3b4ca85a86c47a098a224000000000", "0x" + 64 * "f", "0x1" + 64 * "0"),
    *("0x" + 40 * "0", "0x" + 64 * "0", "0x" + 65 * "0", "0x" + 512 * "0", "0x" + 3000 * "f", 10**4000, 8500 * "a"),
    *(
        "0x_1",
        " 0x1",
        "0x1 ",
        "1",
        "-0x1",
        "0xg",
        "latest",
        "\x00",
        "é",
        "\U0001f600",
        ["0x1"],
        [None],
        {"hash": "0x1"},
    ),
]
TOKENS = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"0", b"-", b"1e9", b"1e999", b"0x", b"\x00"),
    *(b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\\u0000", b"\\ud800", b"\\u0030", b"\n", b" ", b"9" * 400, b"[" * 2000),
    *(
        b'"hash":"0x1",',
        b'"number":"0x1",',
        b'"type":"0x2",',
        b'"id":2,',
        b'"result":null,',
        b'"error":{},',
        b"[]",
        b"{}",
    ),
    *(b'"error":{"code":-32005,"message":"limit"},', b'"logs":[],', b'"removed":true,', b"<html>", b'"to":null,'),
]


class Seed(NamedTuple):
    """One recorded block: ``text`` is ``[block, receipts]``."""

    name: str
    number: int
    chain_id: int
    text: str


class Step(NamedTuple):
    """``kind`` of change, ``at`` in [0, 1) of all places, ``what`` of all values."""

    kind: int
    at: float
    what: int


def seeds(chain_data: Path) -> list[Seed]:
    """The smallest blocks of each set, one for each mix of transaction types and header fields."""
    return [seed for name, count in SETS.items() for seed in _of_set(chain_data / name, count)]


def _of_set(folder: Path, count: int) -> Iterator[Seed]:
    chain_id = json.loads((folder / "meta.json").read_text())["chainId"]
    with gzip.open(folder / "blocks.jsonl.gz", "rt") as lines:
        entries = [json.loads(line) for line in lines]
    kept: dict[str, tuple[int, str]] = {}
    for entry in entries:
        text = json.dumps([entry["block"], entry["receipts"]], separators=(",", ":"))
        kinds = sorted({str(tx.get("type")) for tx in entry["block"]["transactions"]})
        logs = any(receipt["logs"] for receipt in entry["receipts"])
        key = f"{kinds} {len(entry['block'])} {logs}"
        if key not in kept or len(text) < len(kept[key][1]):
            kept[key] = (int(entry["block"]["number"], 16), text)
    small = sorted(kept.values(), key=lambda one: len(one[1]))
    for number, text in [one for one in small if '"from"' in one[1] and len(one[1]) <= MAX_SEED_BYTES][:count]:
        yield Seed(f"{folder.name}/{number}", number, chain_id, text)


def mutant(seed: Seed, steps: Sequence[Step]) -> tuple[bytes, bytes]:
    """The answers to ``eth_getBlockByNumber`` and ``eth_getBlockReceipts`` after all steps."""
    tree = changed(seed, steps)
    return respelled((_answer(BLOCK_ID, tree[0]), _answer(RECEIPTS_ID, tree[1])), steps)


def changed(seed: Seed, steps: Sequence[Step]) -> Any:
    """``[block, receipts]`` after those of ``steps`` that change values."""
    tree = json.loads(seed.text)
    for step in steps:
        if step.kind < len(JSON_STEPS):
            _change(tree, step)
    return tree


def respelled(texts: tuple[bytes, bytes], steps: Sequence[Step]) -> tuple[bytes, bytes]:
    """``texts`` after those of ``steps`` that change text."""
    bodies = list(texts)
    for step in steps:
        if step.kind >= len(JSON_STEPS):
            which = step.what & 1
            bodies[which] = TEXT_STEPS[step.kind - len(JSON_STEPS)](bodies[which], step.at, step.what >> 1)
    return bodies[0], bodies[1]


def _answer(number: int, result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}, separators=(",", ":")).encode()


def random_steps(chance: random.Random) -> list[Step]:
    """One step mostly, up to six."""
    count = 1 + min(5, int(chance.expovariate(0.9)))
    return [Step(chance.randrange(KINDS), chance.random(), chance.getrandbits(32)) for _ in range(count)]


# -- changes of values ------------------------------------------------------------------------------------------------


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every value of the tree as (container, key)."""
    found: list[tuple[Any, Any]] = []
    containers = [tree]
    for container in containers:
        for key in container if isinstance(container, dict) else range(len(container)):
            found.append((container, key))
            if isinstance(container[key], dict | list):
                containers.append(container[key])
    return found[2:]


def _change(tree: Any, step: Step) -> None:
    places = _places(tree)
    if places:
        container, key = places[int(step.at * len(places))]
        JSON_STEPS[step.kind](container, key, step.what, places)


def _set(container: Any, key: Any, what: int, _: Any) -> None:
    container[key] = deepcopy(ODD[what % len(ODD)])


def _delete(container: Any, key: Any, _what: int, _: Any) -> None:
    del container[key]


def _copy(container: Any, key: Any, what: int, places: Any) -> None:
    other, name = places[what % len(places)]
    container[key] = json.loads(json.dumps(other[name]))


def _of_sibling(container: Any, key: Any, what: int, places: Any) -> None:
    """The value that the same key has elsewhere."""
    same = [other for other, name in places if name == key and isinstance(other, dict)]
    if isinstance(container, dict):
        container[key] = json.loads(json.dumps(same[what % len(same)][key]))


def _repeat(container: Any, key: Any, what: int, _: Any) -> None:
    if isinstance(container, list):
        container.insert(what % (len(container) + 1), json.loads(json.dumps(container[key])))


def _swap(container: Any, key: Any, what: int, _: Any) -> None:
    keys = list(container) if isinstance(container, dict) else range(len(container))
    other = keys[what % len(keys)]
    container[key], container[other] = container[other], container[key]


def _digit(container: Any, key: Any, what: int, _: Any) -> None:
    text = container[key]
    if isinstance(text, str) and len(text) > 2:
        at = 2 + what % (len(text) - 2)
        container[key] = text[:at] + "0123456789abcdefABCDEFxg"[(what >> 8) % 24] + text[at + 1 :]


def _respell(container: Any, key: Any, what: int, _: Any) -> None:
    """The same number or bytes in another spelling, or nearly."""
    text = container[key]
    if isinstance(text, str) and text.startswith("0x") and len(text) > 2:
        try:
            number = int(text, 16)
        except ValueError:
            return
        spelled = [
            text.upper(),
            "0X" + text[2:].upper(),
            "0x" + text[2:].upper(),
            "0x0" + text[2:],
            number,
            str(number),
        ]
        spelled += [
            hex(number),
            f"0x{number:064x}",
            f"0x{number:0256x}",
            text[:-1],
            text + "0",
            float(number % (1 << 50)),
        ]
        container[key] = spelled[what % len(spelled)]


def _near(container: Any, key: Any, what: int, _: Any) -> None:
    text = container[key]
    if isinstance(text, str) and len(text) <= 66 and text.startswith("0x"):
        try:
            container[key] = hex(max(0, int(text, 16) + (1, -1, 1 << 32, 1 << 64, 1 << 128)[what % 5]))
        except ValueError:
            return


def _extra(container: Any, _key: Any, what: int, _: Any) -> None:
    if isinstance(container, dict):
        names = ("extra", "status", "root", "yParity", "v", "chainId", "type", "removed", "accessList", "logs", "mint")
        container[names[what % len(names)]] = deepcopy(ODD[(what >> 8) % len(ODD)])


JSON_STEPS = [_set, _set, _set, _delete, _copy, _of_sibling, _repeat, _swap, _digit, _respell, _respell, _near, _extra]


# -- changes of text --------------------------------------------------------------------------------------------------


def _flip(body: bytes, at: float, what: int) -> bytes:
    return _put(body, at, lambda byte: bytes([byte ^ 1 << what % 8]))


def _overwrite(body: bytes, at: float, what: int) -> bytes:
    return _put(body, at, lambda _: bytes([what % 256]))


def _put(body: bytes, at: float, new: Any) -> bytes:
    place = int(at * len(body))
    return body[:place] + new(body[place]) + body[place + 1 :] if body else body


def _insert(body: bytes, at: float, what: int) -> bytes:
    place = int(at * len(body))
    return body[:place] + TOKENS[what % len(TOKENS)] + body[place:]


def _key_again(body: bytes, at: float, what: int) -> bytes:
    """Another key behind an opening brace, or before a closing one, where it is the last of its name."""
    place = body.find(b"{", int(at * len(body))) + 1
    if what & 1:
        place = body.find(b"}", int(at * len(body)))
        return body[:place] + b"," + TOKENS[(what >> 1) % len(TOKENS)].rstrip(b",") + body[place:]
    return body[:place] + TOKENS[(what >> 1) % len(TOKENS)] + body[place:]


def _cut(body: bytes, at: float, what: int) -> bytes:
    place = int(at * len(body))
    return body[:place] + body[place + 1 + what % (1, 4, 64, 1024)[what >> 16 & 3] :]


def _twice(body: bytes, at: float, what: int) -> bytes:
    place = int(at * len(body))
    return body[: place + what % 512] + body[place:]


def _truncate(body: bytes, at: float, _: int) -> bytes:
    return body[: int(at * len(body))]


TEXT_STEPS = [_flip, _overwrite, _insert, _key_again, _cut, _twice, _truncate]
KINDS = len(JSON_STEPS) + len(TEXT_STEPS)
