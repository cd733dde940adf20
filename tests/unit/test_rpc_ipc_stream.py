"""JSON messages are found in a byte stream however it is cut."""

import msgspec
import pytest

from ampd_ray.errors import MalformedResponse
from ampd_ray.providers.failures import Failed
from ampd_ray.providers.json_stream import MessageStream

MESSAGES = [
    b'{"jsonrpc":"2.0","id":1,"result":{"a":"}{\\"\\n"}}',
    b'[{"id":2,"result":null},{"id":3,"result":[{}]}]',
    b'{\n  "id": 4,\n  "result": "0x1"\n}',
]
IDS = [[1], [2, 3], [4]]


def read(stream: MessageStream, data: bytes, step: int) -> list[list[object]]:
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    return [[reply.id for reply in answer.replies] for piece in pieces for answer in stream.feed(piece)]


@pytest.mark.parametrize("separator", [b"\n", b"", b" \r\n\n", b"\n  "])
@pytest.mark.parametrize("step", [1, 2, 7, 50, 10_000])
def test_messages_come_out_whole(separator: bytes, step: int) -> None:
    stream = MessageStream()
    data = b"".join(message + separator for message in MESSAGES)
    assert read(stream, data, step) == IDS
    assert read(stream, data, step) == IDS


def test_the_result_is_that_of_the_message() -> None:
    (answer,) = MessageStream().feed(MESSAGES[0])
    assert msgspec.json.decode(answer.replies[0].result) == {"a": '}{"\n'}
    assert answer.size == len(MESSAGES[0])


@pytest.mark.parametrize("garbage", [b"hello\n", b"<html>\n", b'{"id":1}}\n', b'{"id": ]\n'])
def test_garbage_is_an_error(garbage: bytes) -> None:
    with pytest.raises(Failed) as raised:
        MessageStream().feed(garbage)
    assert raised.value.failure.error is MalformedResponse
