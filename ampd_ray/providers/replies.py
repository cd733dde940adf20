"""Which reply belongs to which call, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ampd_ray.errors import BlockUnavailable, DataFault, MalformedResponse, ProviderError, ResponseTooLarge
from ampd_ray.providers import envelope
from ampd_ray.providers.envelope import Answer, Call, Reply, Request
from ampd_ray.providers.failures import UNREADABLE, Failed, Failure, of_rpc_error

T = TypeVar("T")


def pair(calls: Sequence[Call[T]], request: Request, answer: Answer) -> list[T | Failure]:
    """The value or the failure of each call. Raises ``Failed`` if the answer is one about the batch as a whole.

    Paired by id, never by position: a missing or a second reply is a fault of that entry alone.
    """
    if answer.unread is None:
        return _paired(calls, request, answer)
    if not request.batch:  # else it is about the batch, and may well be an error
        results = _paired(calls, request, answer)
        if not any(isinstance(result, Failure) for result in results):
            return results
    return _paired(calls, request, envelope.decode_or_fail(answer.unread, answer.retry_after))


def _paired(calls: Sequence[Call[T]], request: Request, answer: Answer) -> list[T | Failure]:
    if request.batch and not answer.batch:
        raise Failed(_of_whole_batch(answer))
    replies: dict[int | str | None, Reply | None] = {}
    for reply in answer.replies:
        replies[reply.id] = None if reply.id in replies else reply
    results: list[T | Failure] = []
    for number, call in zip(request.ids, calls, strict=True):
        result = _result(call, _find(replies, number, alone=not request.batch), answer.retry_after)
        results.append(result)
    return results


def _find(replies: dict[int | str | None, Reply | None], number: int, *, alone: bool) -> Reply | None:
    """The reply with this id, some servers make a string of it; a lone error may come without."""
    for key in (number, str(number), *((None,) if alone else ())):
        reply = replies.get(key)
        if reply is not None and (key is not None or envelope.is_present(reply.error)):
            return reply
    return None


def _result(call: Call[T], reply: Reply | None, retry_after: float | None) -> T | Failure:
    if reply is None:
        return Failure(MalformedResponse, "left out a reply, or gave two with one id")
    if envelope.is_present(reply.error):
        return of_rpc_error(envelope.loosely(reply.error), retry_after)
    if envelope.is_absent(reply.result):
        return Failure(MalformedResponse, "answered neither a result nor an error")
    if envelope.is_null(reply.result):
        return Failure(BlockUnavailable, f"has nothing (null) for {call.method}", final=call.null_is_final)
    try:
        return call.decode(reply.result)
    except (*UNREADABLE, ValueError) as error:
        kind = MalformedResponse if call.block is None else DataFault  # the node speaks JSON-RPC, but the block is none
        return Failure(kind, f"answered {call.method} in a form that we cannot read: {error}")


def _of_whole_batch(answer: Answer) -> Failure:
    """One object in answer to a batch: an error about the batch as such, or nonsense."""
    reply = answer.replies[0]
    if not envelope.is_present(reply.error):
        return Failure(MalformedResponse, "answered one object to a batch")
    failure = of_rpc_error(envelope.loosely(reply.error), answer.retry_after)
    if failure.error is ProviderError:
        return Failure(ResponseTooLarge, f"does not take the batch: it {failure.text}")
    return failure
