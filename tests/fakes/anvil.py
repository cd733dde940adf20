"""Anvil as a child process on a free port: a real client with all transaction types, a growing head and reorgs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.fakes.http import rpc_call
from tests.fakes.places import ANVIL
from tests.fakes.process import running


@dataclass(frozen=True)
class Anvil:
    """A running anvil."""

    url: str

    @property
    def ws_url(self) -> str:
        """The same port, for WebSocket."""
        return self.url.replace("http://", "ws://", 1)

    def call(self, method: str, *params: Any) -> Any:
        """The result of one call; an error answer raises."""
        return rpc_call(self.url, method, *params)

    def head(self) -> int:
        """Number of the newest block."""
        return int(self.call("eth_blockNumber"), 16)

    def mine(self, blocks: int = 1) -> None:
        """Put blocks on top."""
        self.call("anvil_mine", hex(blocks))

    def reorg(self, depth: int) -> None:
        """Replace the last ``depth`` blocks by as many empty ones of another branch."""
        self.call("anvil_reorg", depth, [])


@contextmanager
def anvil(
    block_time: float | None = None, slots_in_an_epoch: int = 2, *, options: Sequence[str] = ()
) -> Iterator[Anvil]:
    """Run anvil; safe and finalized are 1 and 2 epochs behind its head. Without ``block_time`` it mines on demand."""
    command = [str(ANVIL), "--port", "0", "--slots-in-an-epoch", str(slots_in_an_epoch), *options]
    if block_time is not None:
        command += ["--block-time", str(block_time)]
    with running(command, r"Listening on (\S+)") as ready:
        yield Anvil(f"http://{ready[1]}")
