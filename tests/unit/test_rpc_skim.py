"""A reply that is told by how its message begins and ends says the same as one that is parsed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.datasets.evm.rpc import RECEIPTS, RpcGlance
from ampd_ray.devnet.chain import DevChain
from ampd_ray.providers.calls import CHAIN_ID, Glanced, block_call, head_call, text_call
from ampd_ray.providers.envelope import Answer, Call, Request, decode_or_fail, skim_or_fail
from ampd_ray.providers.failures import UNREADABLE, Failed, Failure
from ampd_ray.providers.receipts import _decode_all, _of_block, _text
from ampd_ray.providers.replies import pair


def _block() -> tuple[bytes, bytes]:
    chain = DevChain()
    made = chain.mine(1)
    return made.json(full=True), made.receipts_json()


BLOCK, RECEIPTS_TEXT = _block()
HEADER = RpcGlance(number="0x1", hash="0x" + 64 * "a")
CALLS: dict[str, tuple[Call[Any], bytes]] = {
    "chain id": (CHAIN_ID, b'"0x539"'),
    "head": (head_call("latest"), BLOCK),
    "block": (block_call(1), BLOCK),
    "block as text": (text_call(1), BLOCK),
    "receipts": (_of_block(HEADER, _decode_all, by_hash=True), RECEIPTS_TEXT),
    "receipts as text": (_of_block(HEADER, _text, by_hash=True), RECEIPTS_TEXT),
}
BEGIN = b'{"jsonrpc":"2.0","id":7,"result":'


def outcome(call: Call[Any], answer: Any, *, batch: bool = False) -> Any:
    """What comes of an answer to ``call``, with id 7; in a batch with another if ``batch``."""
    calls, ids = ([call, call], (7, 8)) if batch else ([call], (7,))
    try:
        return [_plain(result) for result in pair(calls, Request(b"", ids, batch), answer())]
    except Failed as error:
        return error.failure


def _plain(result: Any) -> Any:
    if isinstance(result, msgspec.Raw):
        return bytes(memoryview(result))
    if isinstance(result, Glanced):
        return _plain(result.text), result.glance.number, result.glance.hash, result.glance.hashes_only
    return result


def assert_same(name: str, body: bytes) -> None:
    call = CALLS[name][0]
    for batch in (False, True):
        skimmed = outcome(call, lambda: skim_or_fail(body, 1.5), batch=batch)
        parsed = outcome(call, lambda: decode_or_fail(body, 1.5), batch=batch)
        if skimmed != parsed:
            assert call.decode is _text, (skimmed, parsed)
            assert not batch
            assert_left_to_the_reader(skimmed, parsed)


def assert_left_to_the_reader(skimmed: Any, parsed: Any) -> None:
    """Receipts as text are not parsed here: what is none will be found out, and fetched again, when they are read."""
    assert isinstance(parsed, Failure) or isinstance(parsed[0], Failure | bytes)
    (text,) = skimmed
    with pytest.raises(UNREADABLE):
        RECEIPTS.decode(text)


def plain(result: bytes, number: bytes = b"7") -> bytes:
    return BEGIN.replace(b"7", number) + result + b"}"


def up_to(end: bytes, body: bytes) -> bytes:
    """The body cut after the last ``end`` within it."""
    return body[: body.rfind(end, 0, -2) + len(end)]


ERROR = b'{"code":-32005,"message":"limit exceeded"}'
BODIES: dict[str, Any] = {
    "plain": plain,
    "a newline after it": lambda r: plain(r) + b"\n",
    "blanks around the result": lambda r: plain(b" " + r + b"\r\n\t "),
    "a blank before it": lambda r: plain(b" " + r),
    "a blank after it": lambda r: plain(r + b" "),
    "blanks everywhere": lambda r: json.dumps({"jsonrpc": "2.0", "id": 7, "result": json.loads(r)}, indent=1).encode(),
    "no error after it": lambda r: plain(r + b',"error":null'),
    "an error after it": lambda r: plain(r + b',"error":' + ERROR),
    "an error after null": lambda _: plain(b'null,"error":' + ERROR),
    "a list after it": lambda r: plain(r + b',"warnings":[]'),
    "the id last": lambda r: b'{"jsonrpc":"2.0","result":' + r + b',"id":7}',
    "another id last": lambda r: plain(r + b',"id":8'),
    "a second result": lambda r: plain(r + b',"result":null'),
    "a second result of the same form": lambda r: plain(r + b',"result":' + r),
    "another order": lambda r: b'{"id":7,"jsonrpc":"2.0","result":' + r + b"}",
    "another id": lambda r: plain(r, b"8"),
    "the id as text": lambda r: plain(r, b'"7"'),
    "no id": lambda r: plain(r, b"null"),
    "an id with a zero before it": lambda r: plain(r, b"07"),
    "an id of 18 digits": lambda r: plain(r, b"9" * 18),
    "an id of 19 digits": lambda r: plain(r, b"9" * 19),
    "an id of digits elsewhere": lambda r: plain(r, "٧".encode()),
    "null": lambda _: plain(b"null"),
    "null between blanks": lambda _: plain(b" null "),
    "null and a blank": lambda _: plain(b"null\n"),
    "null as text": lambda _: plain(b'"null"'),
    "nothing": lambda _: plain(b""),
    "an empty body": lambda _: b"",
    "a blank": lambda _: plain(b" "),
    "an empty list": lambda _: plain(b"[]"),
    "an empty object": lambda _: plain(b"{}"),
    "[}": lambda _: plain(b"[}"),
    "a list that closes twice": lambda _: plain(b"[]]"),
    "two lists": lambda _: plain(b"[],[]"),
    "the first half": lambda r: plain(r)[: len(plain(r)) // 2],
    "all but the last": lambda r: plain(r)[:-1],
    "up to a closing brace": lambda r: up_to(b"}", plain(r)),
    "up to a closing bracket and brace": lambda r: up_to(b"]}", plain(r)),
    "nothing but the beginning": lambda _: BEGIN,
    "a closing brace too many": lambda r: plain(r) + b"}",
    "more after it": lambda r: plain(r) + b"garbage}",
    "twice": lambda r: plain(r) + plain(r),
    "nested too deeply": lambda _: plain(b"[" * 100_000 + b"]" * 100_000),
    "no UTF-8": lambda r: plain(r.replace(b"0x", b"\xff\xfe", 1)),
    "a batch of one": lambda r: b"[" + plain(r) + b"]",
    "a batch of two": lambda r: b"[" + plain(r, b"8") + b"," + plain(r) + b"]",
    "an error": lambda _: b'{"jsonrpc":"2.0","id":7,"error":' + ERROR + b"}",
    "HTML": lambda _: b"<html>}",
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("body", BODIES)
def test_they_say_the_same(body: str, name: str) -> None:
    assert_same(name, BODIES[body](CALLS[name][1]))


@pytest.mark.parametrize("name", CALLS)
def test_what_is_plain_is_not_parsed_for_its_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampd_ray.providers.envelope.decode_or_fail", None)
    call, result = CALLS[name]
    body = plain(result)
    answer: Answer = skim_or_fail(body, 1.5)
    assert (answer.size, answer.batch, answer.retry_after) == (len(body), False, 1.5)
    assert not isinstance(outcome(call, lambda: answer)[0], Failure)


@st.composite
def mutants(draw: st.DrawFn) -> tuple[str, bytes]:
    """A plain body with up to four pieces replaced, taken out, doubled or put in."""
    name = draw(st.sampled_from(sorted(CALLS)))
    result = CALLS[name][1]
    body = plain(draw(st.sampled_from([result, result, b"null", b"[]", b"[{}]", b"{}", b'"0x1"'])))
    tokens = st.sampled_from([*b'{}[]",:\\ \n07x', b"null", b',"error":null', b',"id":7', b'"result":', b"]}", ERROR])
    for _ in range(draw(st.integers(1, 4))):
        near_an_end = draw(st.integers(0, min(60, len(body))))
        at = draw(st.sampled_from([near_an_end, len(body) - near_an_end, draw(st.integers(0, len(body)))]))
        until = min(len(body), at + draw(st.integers(0, 3)))
        token = draw(tokens | st.binary(max_size=2))
        body = body[:at] + (bytes([token]) if isinstance(token, int) else token) + body[until:]
    return name, body


@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(mutants())
def test_spoiled_bodies_say_the_same(mutant: tuple[str, bytes]) -> None:
    assert_same(*mutant)
