"""Sessions to a real Postgres whose statements are steps of the simulation.

Statements run one at a time, so one that waits for a lock can only wait for a task that stands at a gate: that is
seen in ``pg_locks``, and the scheduler decides how long it lasts. No time-out of the server is ever in force.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.waiting import Ready

from tests.simulator.faults import Faults
from tests.simulator.kernel import PROCESS, Kernel, NumberedTask, Vanished
from tests.simulator.process import Process

PATIENCE_MS = 3
LIMITS = frozenset({"limit_transaction", "limit_wait"})  # of real time, which does not pass here
IDLE_IN_TRANSACTION_SECS = 30.0


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


@dataclass
class Cursor:
    """A cursor whose statement is a step."""

    session: Session
    real: psycopg.AsyncCursor[Any]

    async def __aenter__(self) -> Cursor:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def execute(self, query: Any, params: Any = None) -> Cursor:
        await self.session.statement(query, lambda: self.real.execute(query, params))
        return self

    async def fetchall(self) -> list[Any]:
        return await self.real.fetchall()

    async def fetchone(self) -> Any:
        return await self.real.fetchone()


class Session:
    """What the product takes for a connection. ``closed``: it broke, and nothing on it ever works again."""

    def __init__(self, pool: Pool, wire: Wire, process: Process | None):
        self.closed = False
        self.since: float | None = None  # of its transaction
        self._pool = pool
        self._wire = wire
        self._process = process
        self._depth = 0
        self._changes = False

    @property
    def info(self) -> Any:
        return self._wire.info

    @property
    def waits(self) -> bool:
        """In the middle of a statement."""
        return self._wire in self._wire.locks.waiting

    async def execute(self, query: Any, params: Any = None) -> Any:
        if getattr(query, "name", "") in LIMITS:
            return None
        return await self.statement(query, lambda: self._wire.execute(query, params))

    async def close(self) -> None:
        """The product gives this session up."""
        self.lose()

    def cursor(self, *, row_factory: Any = None) -> Cursor:
        return Cursor(self, self._wire.cursor(row_factory=row_factory))

    async def statement(self, query: Any, run: Callable[[], Awaitable[Any]]) -> Any:
        """One step; any fault may strike before it, or after it has happened."""
        label = getattr(query, "name", "sql")
        await self._pool.kernel.gate(label)
        self._check(self._pool.faults.cuts(label))
        alone = self._wire.idle
        if alone:
            self._wire.set_clock()
        try:
            done = await run()
        except psycopg.errors.QueryCanceled as error:
            self._wire.gave_up = False
            raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout") from error
        finally:
            if self._process is not None and self._process.gone:
                raise Vanished
        self._pool.kernel.note(f"{label} {done.rowcount}")
        self._changes |= self._pool.matters(query)
        if alone:
            self._applied()
        self._check(alone and self._pool.faults.cuts(label))
        return done

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A transaction, or a savepoint within one."""
        outer, self._depth = self._depth == 0, self._depth + 1
        name = f"s{self._depth}"
        try:
            if outer:
                self._check(False)
                self._wire.set_clock(begin="begin")
                self.since, self._changes = self._pool.kernel.clock, False
            else:
                self._wire.tell(f"savepoint {name}")
            try:
                yield
                await self._commit() if outer else self._wire.tell(f"release {name}")
            except BaseException:
                self._abort("rollback" if outer else f"rollback to {name}")
                raise
        finally:
            self._depth -= 1
            if outer and not self._silent:
                self.since = None

    async def _commit(self) -> None:
        kernel = self._pool.kernel
        await kernel.gate("commit")
        fault = self._pool.faults.of_commit()
        self._check(fault == "not committed")
        self._wire.tell("commit")
        kernel.note("committed")
        self._applied()
        self._check(fault == "committed")

    def _abort(self, command: str) -> None:
        if self.closed:
            self._wire.roll_back()
        elif not self._silent and not self._wire.idle:
            self._wire.tell(command)

    def _applied(self) -> None:
        if self._changes:
            self._changes = False
            self._pool.on_change(self._process)

    def _check(self, cut: bool) -> None:
        """Raise if the session is lost, as it is from now on if it is ``cut``."""
        if cut:
            self.lose()
        if self.closed:
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    def lose(self) -> None:
        """The connection breaks, and the server notices."""
        if not self.closed:
            self.closed = True
            if not self.waits:
                self._wire.roll_back()
            self._pool.kernel.note("session lost")

    @property
    def _silent(self) -> bool:
        """Its process is gone, and nobody tells the server."""
        return self._process is not None and self._process.gone and self._process.silent_end and self.since is not None


class Pool:
    """Hands out sessions. ``on_change`` is called after each commit that may have changed what the checker reads."""

    def __init__(self, kernel: Kernel, faults: Faults, wires: list[Wire]):
        self.kernel = kernel
        self.faults = faults
        self.sessions: dict[Session, Wire] = {}
        self.on_change: Callable[[Process | None], None] = lambda _: None
        self._free = wires
        self._kinds: dict[Any, bool] = {}

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        if not self._free:
            raise psycopg.OperationalError("couldn't get a connection")
        wire = self._free.pop()
        wire.kernel = self.kernel
        session = Session(self, wire, PROCESS.get())
        self.sessions[session] = wire
        try:
            yield session
        finally:
            if session.since is None:
                self._give_back(session)

    def tick(self) -> None:
        """The server ends transactions that have been idle for long, such as those of a machine without power."""
        for session in list(self.sessions):
            if session.since is None or session.waits or self.kernel.clock - session.since < IDLE_IN_TRANSACTION_SECS:
                continue
            session.lose()
            if session._process is not None and session._process.gone:
                self._give_back(session)

    def lose_all(self) -> None:
        """Postgres restarts."""
        for session in list(self.sessions):
            session.lose()

    def close(self) -> None:
        """Nobody uses a session any more."""
        for session in list(self.sessions):
            self._give_back(session)

    def _give_back(self, session: Session) -> None:
        wire = self.sessions.pop(session)
        wire.roll_back()
        self._free.append(wire)

    def matters(self, query: Any) -> bool:
        """Whether a statement writes what the checker reads."""
        if query not in self._kinds:
            text = bytes(query).lower() if isinstance(query, bytes) else str(query).lower().encode()
            writes = not text.lstrip().startswith(b"select") or b"insert" in text
            self._kinds[query] = writes and any(
                table in text for table in (b"file_metadata", b"segment", b"jobs_status", b"job_events", b"epoch")
            )
        return self._kinds[query]
