"""What a hostile node may put where: each was once accepted, unbounded, or an error of no class."""

import json
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest

from ampd_ray.datasets.evm import columns
from ampd_ray.datasets.evm.rpc import BLOCK
from ampd_ray.errors import MAX_TEXT_CHARS, MalformedResponse, ProviderError, ResponseTooLarge
from ampd_ray.providers import bodies
from ampd_ray.providers.calls import CHAIN_ID, head_call
from ampd_ray.providers.envelope import MAX_ERROR_BYTES, decode_or_fail, encode
from ampd_ray.providers.failures import MAX_WAIT_SECS, Failed, Failure, of_rpc_error, of_status, retry_after_of
from ampd_ray.providers.json_stream import MessageStream
from ampd_ray.providers.replies import pair

HASH = "0x" + "ab" * 32


@pytest.mark.parametrize("wide", [20, 32])
def test_a_value_too_long_lends_no_digits_to_one_too_short(wide: int) -> None:
    short, long = "0x" + "1" * (2 * wide - 1), "a0x" + "2" * (2 * wide)
    for values in ([short, long], [short + "\n", "0x" + "2" * (2 * wide)]):
        with pytest.raises(columns.ColumnError) as raised:
            columns.raw(values, wide)
        assert raised.value.index == 0


def test_a_quantity_is_never_too_long_to_be_told() -> None:
    with pytest.raises(msgspec.ValidationError, match="length <= 1024"):
        BLOCK.decode(json.dumps({"number": "0x" + "f" * 1023}))
    longest = BLOCK.decode(json.dumps({"number": "0x" + "f" * 1022}))
    assert longest is not None
    assert len(f"{int(str(longest.number), 16)}") < 4300


def test_an_error_keeps_no_more_of_a_stranger_than_can_be_shown_and_stored() -> None:
    error = ProviderError("a\x00b\x1b[31mc\nd\ud800" + "e" * 100_000, block="\x00" + "f" * 100_000, tries=3)
    assert error.message.startswith("a b [31mc\nd eee")
    assert len(error.message) == len(error.details["block"]) == MAX_TEXT_CHARS
    assert error.details["tries"] == 3
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.details) == (error.message, error.details)


@pytest.mark.parametrize("header", ["9" * 5000, "²", "Wed, 21 Oct 99999999999999 07:28:00 GMT", "0 0 0 0 0", "-1"])
def test_a_retry_after_of_any_form_is_a_bounded_time_or_none(header: str) -> None:
    wait = retry_after_of(header)
    assert wait is None or 0 <= wait <= MAX_WAIT_SECS


def test_a_retry_after_in_a_thousand_years_is_a_day() -> None:
    assert retry_after_of(format_datetime(datetime.now(UTC) + timedelta(days=365_000), usegmt=True)) == MAX_WAIT_SECS


@pytest.mark.parametrize(
    "error",
    [
        {"code": 1e308, "message": ["x"] * 1000},
        {"code": "9" * 5000, "message": {"a": 1}},
        {"code": 10**300, "message": "retry in " + "9" * 20 + " min"},
        {"code": -32005, "message": "m", "data": {"rate": {"backoff_seconds": 10**400}}},
        {"code": -32005, "message": "m", "data": {"rate": {"backoff_seconds": -1e300}}},
        {"code": 1, "message": "header " * 200_000 + "not"},
        ["header not found"],
    ],
)
def test_an_error_object_of_any_form_becomes_a_short_failure(error: object) -> None:
    failure = of_rpc_error(error)
    assert len(failure.text) < 300
    assert failure.text.isprintable()
    assert failure.retry_after is None or 0 <= failure.retry_after <= MAX_WAIT_SECS


def test_an_error_page_nested_too_deeply_is_but_its_status() -> None:
    assert of_status(500, None, b'{"error":' + b"[" * 60_000).text == "answered HTTP 500"


def failed(text: bytes) -> Failure:
    with pytest.raises(Failed) as raised:
        decode_or_fail(text)
    return raised.value.failure


def test_too_deep_too_much_and_too_dense_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nested too deeply" in failed(b'{"id":1,"result":' + b"[" * 100_000).text
    monkeypatch.setattr(bodies, "LARGE_BYTES", 1000)
    monkeypatch.setattr(bodies, "MAX_PARSED_BYTES", 100_000)
    dense = b'{"id":1,"result":[' + b"{}," * 500 + b"{}]}"
    assert failed(dense).error is ResponseTooLarge
    assert decode_or_fail(b'{"id":1,"result":"' + b"a" * 50_000 + b'"}').size > 50_000


def test_a_long_error_object_is_not_read() -> None:
    call, size = head_call("latest"), MAX_ERROR_BYTES + 1
    text = b'{"id":1,"error":"' + b"x" * (size - 2) + b'"}'
    (outcome,) = pair([call], encode([call], [1]), decode_or_fail(text))
    assert isinstance(outcome, Failure)
    assert outcome.text == f"answered the error: an error object of {size} bytes"


HEAD = {"number": "0x1", "hash": HASH, "parentHash": HASH, "timestamp": "0x1"}


@pytest.mark.parametrize(
    "change",
    [{"number": hex(1 << 63)}, {"timestamp": 1 << 64}, {"hash": "0x" + "ab " * 32}, {"parentHash": "ab" * 32}],
)
def test_a_head_fits_everywhere_or_is_malformed(change: dict[str, object]) -> None:
    call = head_call("latest")
    texts = [json.dumps({"id": 1, "result": result}).encode() for result in (HEAD, HEAD | change)]
    good, bad = [pair([call], encode([call], [1]), decode_or_fail(text))[0] for text in texts]
    assert not isinstance(good, Failure)
    assert isinstance(bad, Failure)
    assert bad.error is MalformedResponse


def test_a_chain_id_of_a_thousand_digits_is_malformed() -> None:
    text = b'{"id":1,"result":"0x' + b"f" * 900 + b'"}'
    (outcome,) = pair([CHAIN_ID], encode([CHAIN_ID], [1]), decode_or_fail(text))
    assert isinstance(outcome, Failure)
    assert outcome.error is MalformedResponse


@pytest.mark.parametrize(
    "pieces",
    [
        [b'{"id":1,"result":"}', b'"}'],
        [b'{"id":1,"result":"\\', b'"}"}'],
        [b'{"id":1,"result":"{\\n}', b'\\\\"', b"}"],
        [b'{"id":1,\n"result":[{}', b",{}", b"]}"],
    ],
)
def test_a_chunk_that_ends_like_a_message_is_not_taken_for_one(pieces: list[bytes]) -> None:
    stream = MessageStream()
    taken = [len(stream.feed(piece)) for piece in pieces[:-1]]
    assert sum(taken) == 0
    assert [answer.replies[0].id for answer in stream.feed(pieces[-1])] == [1]


def test_glued_and_lined_messages_in_one_chunk_all_come_out() -> None:
    text = b'{"id":1}{"id":2} {"id":3}\n{"id":4}\n\n{"id":5}\r\n{"id":6}'
    for size in (len(text), 10, 3):
        stream = MessageStream()
        chunks = [text[at : at + size] for at in range(0, len(text), size)]
        answers = [answer for chunk in chunks for answer in stream.feed(chunk)]
        assert [answer.replies[0].id for answer in answers] == [1, 2, 3, 4, 5, 6]


def test_a_stream_of_objects_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_PARSED_BYTES", 1 << 20)
    stream = MessageStream()
    assert stream.feed(b'{"a":[' + b"{}," * 1000 + b"{}") == []
    with pytest.raises(Failed) as raised:
        stream.feed(b"{}," * 5000)
    assert raised.value.failure.error is ResponseTooLarge
