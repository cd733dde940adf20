"""Which blocks were asked of a devnet, held against what was committed by then."""

from __future__ import annotations

import json

import psycopg

from tests.fakes.devnet import Devnet

COMMITTED = """
select n from (select generate_series(lower(blocks), upper(blocks) - 1) as n from ampd_ray.segment where canonical) each
group by n having count(*) = %s
"""


class Fetched:
    """Listens to a devnet from now on. ``numbers`` are the blocks whose transactions were asked for, in order.

    ``tables`` of the database at ``url`` are to have each block.
    """

    def __init__(self, devnet: Devnet, url: str, *, tables: int = 3):
        self.numbers: list[int] = []
        self._url = url
        self._tables = tables
        self._marks: list[tuple[int, set[int]]] = []
        rpc = devnet.server.rpc
        self._answer = rpc.answer
        rpc.answer = self._listen  # type: ignore[method-assign]

    def committed(self) -> set[int]:
        """The blocks that all tables have."""
        with psycopg.connect(self._url) as connection:
            return {number for (number,) in connection.execute(COMMITTED, [self._tables]).fetchall()}

    def mark(self) -> None:
        """What is committed now is not to be asked for again."""
        committed = self.committed()
        self._marks.append((len(self.numbers), committed))

    def again(self) -> list[int]:
        """For each mark, how many of the blocks that were committed then have been asked for since."""
        return [len(committed.intersection(self.numbers[since:])) for since, committed in self._marks]

    def _listen(self, request: bytes | str) -> bytes:
        calls = json.loads(request)
        for call in calls if isinstance(calls, list) else [calls]:
            if call["method"] == "eth_getBlockByNumber" and call["params"][0].startswith("0x") and call["params"][1]:
                self.numbers.append(int(call["params"][0], 16))
        return self._answer(request)
