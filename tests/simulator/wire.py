"""Connections to a real Postgres that outlive the runs, and who of them waits for a lock.

Statements run one at a time, so one that waits for a lock can only wait for a task that stands at a gate: that is
seen in ``pg_locks``, and the scheduler decides how long it lasts. No time-out of the server is ever in force.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.waiting import Ready

from tests.simulator.kernel import Kernel, NumberedTask

PATIENCE_MS = 3


@dataclass
class Waiting:
    """A statement that waits for a lock; ``over``: the server has answered meanwhile."""

    task: NumberedTask
    turn: asyncio.Future[None]
    over: bool = False


class Locks:
    """Who waits for a lock. One at a time: a second one gives up at once, so that never two are freed together."""

    def __init__(self, monitor: psycopg.Connection[Any]):
        self._monitor = monitor
        self.waiting: dict[Wire, Waiting] = {}
        self.on_deadlock: Callable[[], None] = lambda: None

    def holds_up(self, wire: Wire) -> bool:
        """Whether the server says that the statement on ``wire`` waits for a lock."""
        pid = wire.info.backend_pid
        row = self._monitor.execute("select from pg_locks where pid = %s and not granted", (pid,)).fetchone()
        return row is not None

    def _blocks(self, one: Wire, other: Wire) -> bool:
        pids = (one.info.backend_pid, other.info.backend_pid)
        row = self._monitor.execute("select %s = any(pg_blocking_pids(%s)) as blocks", pids).fetchone()
        return row is not None and bool(row[0])

    def settle(self) -> None:
        """A lock may have been given back: see who got it, and let the server finish that statement."""
        for wire, waiting in self.waiting.items():
            while not waiting.over and not wire.answered(1):
                if self.holds_up(wire):
                    break
            else:
                waiting.over = True

    def give_up(self, wire: Wire) -> None:
        """Its time to wait is over."""
        wire.gave_up = True
        self._monitor.execute("select pg_cancel_backend(%s)", (wire.info.backend_pid,))
        while not wire.answered(PATIENCE_MS):
            pass
        if wire in self.waiting:
            self.waiting[wire].over = True

    async def wait(self, wire: Wire, kernel: Kernel) -> None:
        """Until the statement is done, one way or the other."""
        if self.waiting:
            if any(self._blocks(other, wire) and self._blocks(wire, other) for other in self.waiting):
                self.on_deadlock()
            return self.give_up(wire)
        task = asyncio.current_task()
        assert isinstance(task, NumberedTask)
        self.waiting[wire] = Waiting(task, kernel.loop.create_future())
        kernel.note("waits for a lock")
        try:
            await self.waiting[wire].turn
        except asyncio.CancelledError:
            self.give_up(wire)
            raise
        finally:
            del self.waiting[wire]


class Wire(psycopg.AsyncConnection[Any]):
    """A connection that outlives the sessions, and the runs, that use it."""

    locks: Locks
    kernel: Kernel
    gave_up = False
    _clock = ""

    def answered(self, within_ms: int) -> bool:
        """Whether the server has sent something."""
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(within_ms))

    async def wait(self, gen: Any, *_: Any, **__: Any) -> Any:
        """Run a protocol exchange to its end without ever leaving the thread, unless it waits for a lock."""
        cancelled = False
        try:
            next(gen)
            while True:
                if self.answered(PATIENCE_MS):
                    gen.send(Ready.R)
                elif self.locks.holds_up(self):
                    try:
                        await self.locks.wait(self, self.kernel)
                    except asyncio.CancelledError:
                        cancelled = True
        except StopIteration as end:
            if cancelled:
                raise asyncio.CancelledError from None
            return end.value
        except psycopg.errors.QueryCanceled:
            if cancelled:
                raise asyncio.CancelledError from None
            raise
        finally:
            self._ended()

    def tell(self, command: str) -> None:
        """A command that waits for nothing."""
        result = self.pgconn.exec_(command.encode())
        if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            raise psycopg.OperationalError(f"{command}: {result.error_message.decode()}")
        self._ended()

    def set_clock(self, begin: str = "") -> None:
        """Between transactions, let the server know the time; with ``begin``, in the new transaction."""
        if begin:
            self.tell(f"{begin}; set local sim.now = '{self.kernel.now}'")
        elif self._clock != self.kernel.now:
            self.tell(f"set sim.now = '{self.kernel.now}'")
            self._clock = self.kernel.now

    @property
    def idle(self) -> bool:
        """Outside of a transaction."""
        return self.pgconn.transaction_status == TransactionStatus.IDLE

    def roll_back(self) -> None:
        """As the server does when it loses the client."""
        if not self.idle:
            self.tell("rollback")

    def _ended(self) -> None:
        if self.idle and self.locks.waiting:
            self.locks.settle()
