"""No call may wait for ever for a database that has fallen silent (``spec/metadata-db.md`` 1.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from ampd_ray.errors import DatabaseUnavailable

T = TypeVar("T")

ANSWER_SECS: Final = 15.0  # above the statement limit of a transaction, so that the server's own answer comes first


async def within(work: Coroutine[Any, Any, T], secs: float = ANSWER_SECS) -> T:
    """The result of ``work``. Raises DatabaseUnavailable after ``secs``: whether a write happened, the row tells."""
    try:
        async with asyncio.timeout(secs):
            return await work
    except TimeoutError as error:
        raise DatabaseUnavailable(f"the metadata database did not answer within {secs:g} s") from error
