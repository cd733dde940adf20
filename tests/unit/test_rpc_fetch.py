"""Blocks of a source, some taken as they came: all of them, in order, once, and with no call too many."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.native import Rows
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, BlockText, Take
from ampd_ray.devnet.chain import DevChain
from ampd_ray.devnet.rpc import DevRpc, RpcError
from ampd_ray.errors import DataFault, ProviderError
from ampd_ray.providers.envelope import Answer, Request, decode_or_fail, skim_or_fail
from ampd_ray.providers.evm_rpc import EvmRpcSource, Timing
from tests.both_paths import Texts, added, needs_native, pure
from tests.fakes.chains import answers
from tests.fakes.providers import provider
from tests.fakes.rpc_time import FakeTime

BLOCK, RECEIPTS, RECEIPT = "eth_getBlockByNumber", "eth_getBlockReceipts", "eth_getTransactionReceipt"
ALL = Span(0, 25)
Spoil = Callable[[bytes, str], bytes]
"""Another body for the one with which a call of a method, or several, would be answered."""


@pytest.fixture(scope="module")
def chain() -> DevChain:
    made = DevChain(seed=0, txs_per_block=2)
    made.mine(ALL.end)
    assert empty(made) == [0, 6, 13]
    return made


def empty(chain: DevChain) -> list[int]:
    """The blocks without transactions."""
    return [number for number in range(ALL.end + 1) if not found(chain, number).hashes]


def found(chain: DevChain, number: int) -> Any:
    return chain.block(number)


class Node:
    """A transport to a devnet that answers at once. ``spoil`` changes bodies."""

    def __init__(self, chain: DevChain, spoil: Spoil = lambda body, _: body, parse: Any = skim_or_fail) -> None:
        self.rpc = DevRpc(chain)
        self.asked: list[tuple[str, Any]] = []
        self.spoil = spoil
        self._parse = parse

    async def exchange(self, request: Request) -> Answer:
        sent = json.loads(request.payload)
        calls = sent if isinstance(sent, list) else [sent]
        self.asked += [(call["method"], call["params"][0]) for call in calls]
        await asyncio.sleep(0)
        answer: Answer = self._parse(self.spoil(self.rpc.answer(request.payload), calls[0]["method"]))
        return answer

    async def close(self) -> None:
        """Nothing to close."""

    def count(self, method: str) -> int:
        return sum(asked == method for asked, _ in self.asked)


class Fetch:
    """Fetches; takes of the texts that it is offered those that it ``wants``."""

    def __init__(self, node: Node, wants: Take = lambda _: False) -> None:
        self.taken: dict[int, BlockText] = {}
        self.got: dict[int, BlockAndReceipts] = {}
        self.offered: list[int] = []
        self.order: list[int] = []
        self._node = node
        self._wants = wants

    async def __call__(self, span: Span = ALL, **settings: Any) -> Fetch:
        async with opened(self._node, **settings) as source:
            await self.by(source, span)
        return self

    async def by(self, source: EvmRpcSource, span: Span) -> None:
        async with aclosing(source.fetch(span, self._take)) as blocks:
            async for block in blocks:
                number = int(str(block.block.number), 16)
                self.got[number] = block
                self.order.append(number)

    def _take(self, text: BlockText) -> bool:
        self.offered.append(text.number)
        if not self._wants(text):
            return False
        self.taken[text.number] = text
        self.order.append(text.number)
        return True

    @property
    def blocks(self) -> list[BlockAndReceipts]:
        """All in the order in which they came, those that were taken as the pure path reads them."""
        read = {number: pure(as_bytes(text)) for number, text in self.taken.items()}
        return [(read | self.got)[number] for number in self.order]


def as_bytes(text: BlockText) -> Texts:
    receipts = None if text.receipts is None else bytes(memoryview(text.receipts))
    return Texts(text.number, bytes(memoryview(text.block)), receipts)


@asynccontextmanager
async def opened(node: Node, **settings: Any) -> AsyncIterator[EvmRpcSource]:
    source = EvmRpcSource(provider("ipc:///no.ipc", **settings), timing=FakeTime().timing)
    await source._transport.close()
    source._requester._transport = node
    yield source
    await source.close()


WANTS: dict[str, Take] = {
    "all": lambda _: True,
    "none": lambda _: False,
    "every second": lambda text: text.number % 2 == 0,
    "a few": lambda text: text.number % 7 == 3,
}


def compiled(text: BlockText) -> bool:
    """Wants what the compiled path takes."""
    return Rows().add(text.number, text.block, text.receipts)


def wanted_of(wanted: str, number: int) -> bool:
    return WANTS[wanted](BlockText(number, msgspec.Raw(b"")))


@pytest.mark.parametrize("wanted", WANTS)
@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize("span", [ALL, Span(3, 3), Span(1, 10)], ids=str)
async def test_what_was_taken_and_what_came_are_all_blocks_in_order(
    chain: DevChain, wanted: str, batch: int, span: Span
) -> None:
    node = Node(chain)
    fetch = await Fetch(node, WANTS[wanted])(span, rpc_batch_size=batch)
    assert fetch.order == fetch.offered == list(range(span.start, span.end + 1))
    assert list(fetch.taken) == [number for number in fetch.order if wanted_of(wanted, number)]
    assert fetch.blocks == answers(chain, span)
    assert node.count(BLOCK) == len(span)
    assert node.count(RECEIPTS) == len(set(fetch.order) - set(empty(chain)))


@pytest.mark.parametrize("batch", [1, 3])
async def test_a_text_is_what_the_node_said_and_the_compiled_path_takes_it(chain: DevChain, batch: int) -> None:
    needs_native()
    fetch = await Fetch(Node(chain), WANTS["all"])(rpc_batch_size=batch)
    for number, text in fetch.taken.items():
        block = found(chain, number)
        expected = None if not block.hashes else block.receipts_json()
        assert as_bytes(text) == Texts(number, block.json(full=True), expected)
        assert added(Rows(), as_bytes(text))


@pytest.mark.parametrize("wanted", WANTS)
@pytest.mark.parametrize("batch", [1, 3])
async def test_receipts_of_transactions_come_with_blocks_that_are_not_offered(
    chain: DevChain, wanted: str, batch: int
) -> None:
    node = Node(chain)
    fetch = await Fetch(node, WANTS[wanted])(rpc_batch_size=batch, fetch_receipts_per_tx=True)
    assert (fetch.offered, fetch.order) == ([], list(range(len(ALL))))
    assert fetch.blocks == answers(chain, ALL)
    assert node.count(RECEIPTS) == 0
    assert node.count(RECEIPT) == sum(len(block.receipts) for block in fetch.blocks)


def _no_receipts_of_blocks(params: list[Any]) -> bytes:
    raise RpcError(-32601, f"the method {RECEIPTS} does not exist/is not available")


@pytest.mark.parametrize("wanted", WANTS)
@pytest.mark.parametrize("batch", [1, 3])
async def test_a_node_without_receipts_of_blocks_is_asked_for_those_of_transactions(
    chain: DevChain, wanted: str, batch: int
) -> None:
    node = Node(chain)
    node.rpc._methods[RECEIPTS] = _no_receipts_of_blocks
    fetch = Fetch(node, WANTS[wanted])
    async with opened(node, rpc_batch_size=batch, concurrent_request_limit=1) as source:
        await fetch.by(source, Span(0, 12))
        asked = node.count(RECEIPTS)
        await fetch.by(source, Span(13, ALL.end))
    assert fetch.order == list(range(len(ALL)))
    assert fetch.blocks == answers(chain, ALL)
    assert 0 < asked == node.count(RECEIPTS)
    assert set(fetch.offered) <= set(empty(chain))


# -- blocks that fail their checks ------------------------------------------------------------------------------------


def bad_bloom(times: int, number: int) -> Spoil:
    """Of one block, in its first answers."""
    left = times

    def spoil(body: bytes, method: str) -> bytes:
        nonlocal left
        answer = json.loads(body)
        for each in answer if isinstance(answer, list) else [answer]:
            if left and method == BLOCK and each["result"]["number"] == hex(number):
                each["result"]["logsBloom"] = "0x" + 512 * "f"
                left -= 1
        return msgspec.json.encode(answer)

    return spoil


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("wanted", ["all", "none", "every second"])
async def test_a_block_that_fails_its_checks_is_fetched_again_unless_it_was_taken(
    chain: DevChain, wanted: str, batch: int
) -> None:
    bad = next(number for number in range(4, 20, 2) if number not in empty(chain))
    node = Node(chain, bad_bloom(2, bad))
    fetch = await Fetch(node, WANTS[wanted])(rpc_batch_size=batch)
    assert fetch.order == list(range(len(ALL)))
    assert bad in fetch.offered
    assert fetch.offered == fetch.order[: len(fetch.offered)]  # after trouble no more for a while
    asked = node.asked.count((BLOCK, hex(bad)))
    if wanted_of(wanted, bad):
        assert b"f" * 512 in as_bytes(fetch.taken.pop(bad)).block
        fetch.order.remove(bad)
        assert asked == 1
    else:
        assert asked == 3
    assert fetch.blocks == [block for n, block in enumerate(answers(chain, ALL)) if n in fetch.order]
    assert node.count(BLOCK) == len(ALL) + asked - 1


async def test_after_the_first_trouble_blocks_are_settled_side_by_side(chain: DevChain) -> None:
    bad = [number for number in range(2, len(ALL)) if number not in empty(chain)]
    spoils = [bad_bloom(1, number) for number in bad]

    def spoil(body: bytes, method: str) -> bytes:
        for each in spoils:
            body = each(body, method)
        return body

    waiting, most = 0, 0

    async def sleep(_: float) -> None:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        for _ in range(50):
            await asyncio.sleep(0)
        waiting -= 1

    fetch = Fetch(Node(chain, spoil))
    async with opened(fetch._node, concurrent_request_limit=2) as source:
        source._timing = Timing(sleep=sleep)
        await fetch.by(source, ALL)
    assert fetch.blocks == answers(chain, ALL)
    assert most > 1


async def test_one_that_always_fails_ends_it_after_what_came_before(chain: DevChain) -> None:
    fetch = Fetch(Node(chain, bad_bloom(100, 6)), WANTS["every second"])
    await fetch()
    assert 6 in fetch.taken
    fetch = Fetch(Node(chain, bad_bloom(100, 7)), WANTS["every second"])
    with pytest.raises(DataFault, match=r"block 7: .*4 tries"):
        await fetch()
    assert fetch.order == list(range(7))


async def test_what_a_taker_raises_ends_it(chain: DevChain) -> None:
    def breaks(text: BlockText) -> bool:
        return text.number < 5 or bool(1 // (text.number - 5))

    fetch = Fetch(Node(chain), breaks)
    with pytest.raises(ZeroDivisionError):
        await fetch()
    assert fetch.order == list(range(5))
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- bodies of other forms --------------------------------------------------------------------------------------------


def replies(body: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Every reply in ``body`` changed."""
    answer = json.loads(body)
    changed = [change(each) for each in answer] if isinstance(answer, list) else change(answer)
    return msgspec.json.encode(changed)


FORMS: dict[str, Spoil] = {
    "no error after it": lambda body, _: replies(body, lambda reply: reply | {"error": None}),
    "something after it": lambda body, _: replies(body, lambda reply: reply | {"took": 1}),
    "the id last": lambda body, _: replies(body, lambda reply: {"result": reply["result"], "id": reply["id"]}),
    "the id as text": lambda body, _: replies(body, lambda reply: reply | {"id": str(reply["id"])}),
    "a newline": lambda body, _: body + b"\n",
    "blanks": lambda body, _: json.dumps(json.loads(body), indent=1).encode(),
    "blanks around the result": lambda body, _: re.sub(rb'"result":(.*)\}', rb'"result": \1 }', body),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wanted", ["all", "none"])
async def test_other_forms_of_an_answer_are_as_good(chain: DevChain, form: str, wanted: str) -> None:
    node = Node(chain, FORMS[form])
    fetch = await Fetch(node, WANTS[wanted])()
    assert fetch.blocks == answers(chain, ALL)
    assert (node.count(BLOCK), node.count(RECEIPTS)) == (len(ALL), len(ALL) - len(empty(chain)))


async def test_a_list_after_the_list_of_receipts_is_found_out_when_they_are_read(chain: DevChain) -> None:
    """It is asked for again at once, and what comes then is not taken for text."""
    needs_native()
    for wants in (WANTS["none"], compiled):
        node = Node(chain, lambda body, _: replies(body, lambda reply: reply | {"warnings": []}))
        fetch = await Fetch(node, wants)(concurrent_request_limit=2)
        assert fetch.blocks == answers(chain, ALL)
        assert node.count(RECEIPTS) <= len(ALL) - len(empty(chain)) + 4  # only of those that were under way as text


def cut(body: bytes, after: bytes) -> bytes:
    at = body.find(after, len(body) // 3)
    return body[: at + len(after)] if at > 0 else body[: len(body) // 2]


BROKEN: dict[str, Spoil] = {
    "null": lambda body, _: replies(body, lambda reply: reply | {"result": None}),
    "null between blanks": lambda body, _: re.sub(rb'"result":.*\}', rb'"result": null }', body),
    "null and an error": lambda body, _: replies(
        body, lambda reply: reply | {"result": None, "error": {"code": -32000, "message": "what?"}}
    ),
    "half": lambda body, _: body[: len(body) // 2],
    "up to a brace": lambda body, _: cut(body, b"}"),
    "up to a bracket and a brace": lambda body, _: cut(body, b"]") + b"}",
    "a list cut short": lambda body, _: cut(body, b",")[:-1] + b"]}",
    "a list of nothing": lambda body, _: replies(body, lambda reply: reply | {"result": []}),
    "a number": lambda body, _: replies(body, lambda reply: reply | {"result": 1}),
    "deep": lambda body, _: re.sub(rb'"result":.*\}', b'"result":' + b"[" * 5000 + b"]" * 5000 + b"}", body),
    "more": lambda body, _: body[:-1] + b"]}",
}


def only(method: str, spoil: Spoil, times: int) -> Spoil:
    left = times

    def spoils(body: bytes, asked: str) -> bytes:
        nonlocal left
        if asked != method or not left:
            return body
        left -= 1
        return spoil(body, asked)

    return spoils


@pytest.mark.parametrize("form", BROKEN)
@pytest.mark.parametrize("method", [BLOCK, RECEIPTS])
async def test_a_broken_answer_is_asked_for_again(chain: DevChain, form: str, method: str) -> None:
    needs_native()
    for wants in (WANTS["none"], compiled):
        node = Node(chain, only(method, BROKEN[form], 1))
        fetch = await Fetch(node, wants)()
        assert fetch.blocks == answers(chain, ALL)
        assert node.count(method) > (len(ALL) if method == BLOCK else len(ALL) - len(empty(chain)))


@pytest.mark.parametrize("form", BROKEN)
@pytest.mark.parametrize("method", [BLOCK, RECEIPTS])
async def test_an_answer_that_stays_broken_is_the_error_of_one_that_is_parsed_at_once(
    chain: DevChain, form: str, method: str
) -> None:
    logging = next(number for number in range(1, 20) if found(chain, number).hashes)
    errors = []
    for parse in (skim_or_fail, decode_or_fail):
        fetch = Fetch(Node(chain, only(method, BROKEN[form], 10**9), parse))
        with pytest.raises(ProviderError) as raised:
            await fetch(Span(logging, logging))
        errors.append((type(raised.value), str(raised.value), raised.value.details))
    assert errors[0] == errors[1]
