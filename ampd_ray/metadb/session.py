"""A session that gives up on a server that has fallen silent (``spec/metadata-db.md`` 1.5).

A server's own limits end what takes too long there. They do not help where its answer never comes, as behind a proxy
or a pooler that takes everything and says nothing: TCP sees a peer that is well.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen

STATEMENT_TIMEOUT: Final = timedelta(seconds=30)
GRACE: Final = timedelta(seconds=5)  # after which an answer that the server owed us does not come any more
_LOOK_EVERY_SECS: Final = 0.1


class Connection(psycopg.AsyncConnection[Any]):
    """Closed, with an OperationalError, when an answer takes ``GRACE`` longer than the server may work on it."""

    statement_timeout: timedelta = STATEMENT_TIMEOUT

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = _LOOK_EVERY_SECS,
        timeout: float | None = None,  # noqa: ASYNC109 - as psycopg has it
    ) -> RV:
        """Wait for an answer; those who give a ``timeout`` know how to go on after it."""
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        secs = (self.statement_timeout + GRACE).total_seconds()
        try:
            return await super().wait(gen, interval, secs)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - what psycopg says that this method raises
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {secs:g} s") from None
