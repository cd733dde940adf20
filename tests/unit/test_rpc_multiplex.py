"""Answers find their requests on a shared connection, and a lost connection is made again."""

import asyncio
from collections.abc import Sequence

import pytest

from ampd_ray.errors import ProviderUnreachable, ResponseTooLarge
from ampd_ray.providers.envelope import Answer, Request, decode
from ampd_ray.providers.failures import Failed, Failure
from ampd_ray.providers.multiplex import MultiplexedTransport


class FakeChannel:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.was_sent = asyncio.Semaphore(0)
        self.incoming: asyncio.Queue[Sequence[Answer] | Failed] = asyncio.Queue()
        self.closed = False

    async def send(self, payload: bytes) -> None:
        self.sent.append(payload)
        self.was_sent.release()

    async def receive(self) -> Sequence[Answer]:
        incoming = await self.incoming.get()
        if isinstance(incoming, Failed):
            raise incoming
        return incoming

    async def close(self) -> None:
        self.closed = True

    def answer(self, body: bytes) -> None:
        self.incoming.put_nowait([decode(body)])


class Connector:
    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []
        self._connected = asyncio.Semaphore(0)

    async def __call__(self) -> FakeChannel:
        self.channels.append(FakeChannel())
        self._connected.release()
        return self.channels[-1]

    async def next_channel(self, requests: int) -> FakeChannel:
        """The channel of the next connection, once so many requests were sent on it."""
        await self._connected.acquire()
        for _ in range(requests):
            await self.channels[-1].was_sent.acquire()
        return self.channels[-1]


def request(*ids: int) -> Request:
    return Request(b"", ids, len(ids) > 1)


async def test_answers_in_any_order_reach_their_requests() -> None:
    connector = Connector()
    transport = MultiplexedTransport(connector, 5)
    asked = [asyncio.create_task(transport.exchange(request(*ids))) for ids in ((1,), (2, 3), (4,))]
    channel = await connector.next_channel(3)
    channel.answer(b'{"jsonrpc":"2.0","method":"eth_subscription","params":{}}')
    channel.answer(b'{"id":99,"result":"late"}')
    channel.answer(b'{"id":4,"result":4}')
    channel.answer(b'[{"id":3,"result":3},{"id":2,"result":2}]')
    channel.answer(b'{"id":1,"result":1}')
    assert [answer.replies[0].id for answer in await asyncio.gather(*asked)] == [1, 3, 4]
    assert len(connector.channels) == 1
    await transport.close()
    assert channel.closed


async def test_a_lost_connection_fails_what_is_under_way_and_the_next_exchange_connects_again() -> None:
    connector = Connector()
    transport = MultiplexedTransport(connector, 5)
    asked = [asyncio.create_task(transport.exchange(request(i))) for i in (1, 2)]
    (await connector.next_channel(2)).incoming.put_nowait([])
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(f, Failed) and f.failure.error is ProviderUnreachable for f in failures] == [True, True]

    again = asyncio.create_task(transport.exchange(request(3)))
    (await connector.next_channel(1)).answer(b'{"id":3,"result":3}')
    assert (await again).replies[0].id == 3
    await transport.close()


TOO_LARGE = Failed(Failure(ResponseTooLarge, "answered more than 128 MiB"))


@pytest.mark.parametrize("requests", [1, 2])
async def test_an_answer_that_is_too_large_is_held_against_the_only_request(requests: int) -> None:
    connector = Connector()
    transport = MultiplexedTransport(connector, 5)
    asked = [asyncio.create_task(transport.exchange(request(2 * i, 2 * i + 1))) for i in range(requests)]
    (await connector.next_channel(requests)).incoming.put_nowait(TOO_LARGE)
    failures = await asyncio.gather(*asked, return_exceptions=True)
    told = [(f.failure.error, f.failure.shared) for f in failures if isinstance(f, Failed)]
    assert told == [(ResponseTooLarge, requests > 1)] * requests
    await transport.close()


async def test_an_answer_that_may_be_that_to_a_request_given_up_is_held_against_nobody() -> None:
    connector = Connector()
    transport = MultiplexedTransport(connector, 5)
    for shared in (True, False):  # the next connection knows nothing of it
        asked = asyncio.create_task(transport.exchange(request(1)))
        channel = await connector.next_channel(1)
        if shared:
            given_up = asyncio.create_task(transport.exchange(request(2)))
            await channel.was_sent.acquire()
            given_up.cancel()
            await asyncio.wait([given_up])
        channel.incoming.put_nowait(TOO_LARGE)
        with pytest.raises(Failed) as raised:
            await asked
        assert raised.value.failure.shared is shared
    await transport.close()


async def test_silence_ends_in_a_timeout_and_a_new_connection() -> None:
    connector = Connector()
    transport = MultiplexedTransport(connector, 0.01)
    with pytest.raises(Failed) as raised:
        await transport.exchange(request(1))
    assert raised.value.failure.timed_out
    assert connector.channels[0].closed
    with pytest.raises(Failed):
        await transport.exchange(request(2))
    assert len(connector.channels) == 2
    await transport.close()


async def test_an_error_without_an_id_answers_the_only_request() -> None:
    connector = Connector()
    transport = MultiplexedTransport(connector, 5)
    asked = asyncio.create_task(transport.exchange(request(1, 2)))
    (await connector.next_channel(1)).answer(b'{"id":null,"error":{"code":-32600,"message":"batch too large"}}')
    assert not (await asked).batch
    await transport.close()
