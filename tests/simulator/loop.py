"""An asyncio loop on a simulated clock that asks a scheduler whenever nothing is ready."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulator.process import Process

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop on the kernel's clock. The timers of a process that is stopped do not go off meanwhile."""

    def __init__(self, clock: Callable[[], float], on_idle: Callable[[], None]):
        self._now = clock
        super().__init__(_NothingToSelect(on_idle))
        self.set_exception_handler(lambda *_: None)  # tasks of killed processes end with nobody to ask why

    def time(self) -> float:
        return self._now()

    def next_timer(self) -> float | None:
        """When the next timer goes off."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return timers[0].when() if timers else None

    def call_at(  # type: ignore[override]  # the stub ties the arguments to the callback
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context or copy_context()
        process = context.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)

        def go_off() -> None:
            if not handle.cancelled():
                process.when_awake(lambda: self.call_soon(once, context=context))

        def once() -> None:
            if not handle.cancelled():
                callback(*args)

        handle = super().call_at(when, go_off, context=context)
        return handle


class _NothingToSelect(selectors.BaseSelector):
    """Nothing comes from outside: where a loop would sleep, the scheduler chooses."""

    def __init__(self, on_idle: Callable[[], None]):
        self._on_idle = on_idle
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            self._on_idle()
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj if isinstance(fileobj, int) else fileobj.fileno()]

    def close(self) -> None:
        self._keys.clear()
