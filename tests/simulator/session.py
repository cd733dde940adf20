"""What the product takes for its connections: each statement is a step, at which the session may break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.simulator.faults import Faults
from tests.simulator.kernel import Kernel, Vanished
from tests.simulator.loop import PROCESS
from tests.simulator.process import Process
from tests.simulator.wire import Wire

LIMITS = frozenset({"limit_transaction", "limit_wait"})  # of real time, which does not pass here
IDLE_IN_TRANSACTION_SECS = 30.0


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
