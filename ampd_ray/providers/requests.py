"""Calls that come back with a value or with a classified error: batches, limits and tries (``spec/data.md`` 2.5)."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from ampd_ray.errors import ProviderError, RateLimited
from ampd_ray.providers import envelope
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.envelope import Answer, Call, Request
from ampd_ray.providers.failures import ADVICE, Failed, Failure
from ampd_ray.providers.limits import Limiter, Timing
from ampd_ray.providers.repeats import Repeats
from ampd_ray.providers.replies import pair
from ampd_ray.providers.stats import Counters

T = TypeVar("T")

MAX_BATCH = 1000
FIRST_DELAY_SECS, MAX_DELAY_SECS = 0.1, 20.0
KEEP_SPLIT_SECS = 600.0  # how long a smaller batch size is kept

logger = logging.getLogger(__name__)


class Transport(Protocol):
    """A way to the provider."""

    async def exchange(self, request: Request) -> Answer:
        """Send a request, wait for its answer. Raises ``Failed``."""

    async def close(self) -> None:
        """Close all connections."""


class Requester:
    """Sends calls of any kind to one provider; every request passes the same limiter."""

    def __init__(
        self, endpoint: Endpoint, transport: Transport, limiter: Limiter, *, batch_size: int, timing: Timing
    ) -> None:
        self.counters = Counters()
        self.repeats = Repeats(logger, timing.clock)
        self._endpoint = endpoint
        self._transport = transport
        self._limiter = limiter
        self._timing = timing
        self._configured_batch = self._batch = max(1, min(batch_size, MAX_BATCH))
        self._restore_batch_at = 0.0
        self._ids = itertools.count(1)

    @property
    def batch_size(self) -> int:
        """Calls that go into one request now."""
        if self._batch < self._configured_batch and self._timing.clock() >= self._restore_batch_at:
            self._batch = self._configured_batch
        return self._batch

    async def one(self, call: Call[T]) -> T:
        """The value of one call. Raises a ``ProviderError``."""
        (outcome,) = await self.many([call])
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    async def many(self, calls: Sequence[Call[T]]) -> list[T | ProviderError]:
        """The value or the error of each call, in their order. One that fails is tried again alone."""
        outcomes: dict[int, T | ProviderError] = {}
        todo = list(range(len(calls)))
        if not todo:
            return []
        spent = 0.0  # waiting for the limiter is not the provider's fault, and does not count
        for tries in itertools.count(1):
            results = await self._send_all([calls[i] for i in todo])
            failed: dict[int, Failure] = {}
            for i, result in zip(todo, results, strict=True):
                if isinstance(result, Failure):
                    failed[i] = result
                else:
                    outcomes[i] = result
            delay = self._delay(tries, failed.values())
            spent += delay + max((failure.took for failure in failed.values()), default=0.0)
            todo = [i for i, failure in failed.items() if tries < failure.tries and spent < self._timing.give_up_secs]
            for i in failed.keys() - set(todo):
                outcomes[i] = self.error(calls[i], failed[i], tries)
            if not todo:
                break
            self._note_retries([failed[i] for i in todo], delay)
            await self._timing.sleep(delay)
        return [outcomes[i] for i in range(len(calls))]

    def error(self, call: Call[Any], failure: Failure, tries: int) -> ProviderError:
        """The error for people: which block, who, what, how often, and what to do."""
        subject = f"block {call.block}: " if call.block is not None else ""
        provider, host = self._endpoint.provider, self._endpoint.host
        times = f" ({tries} tries)" if tries > 1 else ""
        text = self._endpoint.scrub(failure.text)
        facts: dict[str, Any] = {"provider": provider, "host": host, "method": call.method, "tries": tries}
        if call.block is not None and not failure.shared:
            facts["block"] = call.block
        if failure.retry_after is not None:
            facts["retry_after"] = failure.retry_after
        if failure.bad_params:
            facts["bad_params"] = True
        advice = ADVICE[failure.error]
        return failure.error(f"{subject}provider {provider} at {host} {text}{times}. {advice}", **facts)

    async def _send_all(self, calls: Sequence[Call[T]]) -> list[T | Failure]:
        size = self.batch_size
        if len(calls) <= size:
            return await self._send(calls)
        parts = [calls[i : i + size] for i in range(0, len(calls), size)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._send(part)) for part in parts]
        return [result for task in tasks for result in task.result()]

    async def _send(self, calls: Sequence[Call[T]]) -> list[T | Failure]:
        """One request; a batch that is too large goes out again in halves, which costs no try."""
        try:
            return await self._exchange(calls)
        except Failed as error:
            failure = error.failure
        if failure.splits and len(calls) > 1:
            self._shrink(len(calls) // 2)
            return await self._send_all(calls)
        return [failure for _ in calls]

    async def _exchange(self, calls: Sequence[Call[T]]) -> list[T | Failure]:
        request = envelope.encode(calls, [next(self._ids) for _ in calls])
        admitted_at = await self._limiter.acquire()
        try:
            self.counters.requests += 1
            self.counters.calls += len(calls)
            answer = await self._transport.exchange(request)
            self.counters.received(answer.size)
            results = pair(calls, request, answer)
        except Failed as error:
            failure = replace(error.failure, took=self._timing.clock() - admitted_at)
            self._pace([failure] * len(calls), admitted_at, len(calls))
            raise Failed(failure) from None
        finally:
            self._limiter.release()
        self._pace([result for result in results if isinstance(result, Failure)], admitted_at, len(calls))
        return results

    def _pace(self, failures: Sequence[Failure], admitted_at: float, of: int) -> None:
        """Tell the limiter. A few refused entries of a batch are not yet a reason to slow down.

        What fails all that is under way is asked for alone in the end, and then it is known whose answer it is.
        """
        slow = [f for f in failures if f.error is RateLimited or f.timed_out or f.retry_after or f.shared]
        self.counters.throttled += sum(f.error is RateLimited for f in failures)
        if len(slow) * 2 > of:
            self._limiter.slow_down(admitted_at, max((f.retry_after or 0.0) for f in slow))
        elif not failures:
            self._limiter.succeeded(admitted_at)

    def _shrink(self, size: int) -> None:
        self._batch = max(1, min(self._batch, size))
        self._restore_batch_at = self._timing.clock() + KEEP_SPLIT_SECS
        self.counters.splits += 1
        self._warn("split", "batch too large, asking for less at once", batch_size=self._batch)

    def _delay(self, tries: int, failures: Iterable[Failure]) -> float:
        """Full jitter below an exponential bound, but never before the provider wants to be asked again."""
        bound = min(MAX_DELAY_SECS, FIRST_DELAY_SECS * 2 ** (tries - 1))
        asked = max((failure.retry_after or 0.0 for failure in failures), default=0.0)
        return asked + float(self._timing.random() * bound)

    def _note_retries(self, failures: Sequence[Failure], delay: float) -> None:
        self.counters.retries += len(failures)
        for kind in {failure.error for failure in failures}:
            text = next(failure.text for failure in failures if failure.error is kind)
            self._warn(
                kind.code, f"trying again: {self._endpoint.scrub(text)}", calls=len(failures), delay=round(delay, 3)
            )

    def _warn(self, kind: str, message: str, **facts: Any) -> None:
        self.repeats.warn(kind, message, provider=self._endpoint.provider, host=self._endpoint.host, **facts)
