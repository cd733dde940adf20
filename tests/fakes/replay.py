"""The replay server of ``../shared/tools/rpc``: real chain data over JSON-RPC, with faults on demand."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.http import fetch
from tests.fakes.places import CHAIN_DATA, RPC_TOOLS
from tests.fakes.process import running

READY = r"LISTENING (http://\S+) chain=(\d+) blocks=(\d+) range=(\d+)\.\.(\d+)"


@dataclass(frozen=True)
class Replay:
    """A running replay server; blocks ``first`` to ``last`` are those it could serve, below its head."""

    url: str
    chain_id: int
    first: int
    last: int

    def control(self, **settings: Any) -> None:
        """Steer it: ``head``, ``final``, ``error_rate``, ``latency_ms``, ``drop_receipts``, ``rate``, ``replace``…"""
        fetch(f"{self.url}/control", settings)

    def stats(self) -> dict[str, Any]:
        """Its counters: ``calls`` by method, with ``http`` and ``429``; ``head``, ``final``."""
        answer: dict[str, Any] = fetch(f"{self.url}/stats")
        return answer


@contextmanager
def replay(*sets: str, options: tuple[str, ...] = ()) -> Iterator[Replay]:
    """Serve the named sets of the chain data, with ``options`` of ``replay.py`` (``"--latency", "20"``)."""
    with replay_folder(*(CHAIN_DATA / name for name in sets), options=options) as server:
        yield server


@contextmanager
def replay_folder(*folders: Path, options: tuple[str, ...] = ()) -> Iterator[Replay]:
    """Serve sets from anywhere."""
    command = [sys.executable, str(RPC_TOOLS / "replay.py"), *map(str, folders), *options]
    with running(command, READY) as ready:
        url, *numbers = ready.groups()
        chain_id, _, first, last = map(int, numbers)
        yield Replay(url, chain_id, first, last)
