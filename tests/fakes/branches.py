"""A provider whose chain has branches, and a table that follows it with the product's planning and naming."""

from __future__ import annotations

from dataclasses import dataclass, field

from ampd_ray.chain.growing import GrowingTable
from ampd_ray.chain.links import BlockLinks
from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.repair import twin
from ampd_ray.chain.segments import Segment, resolve
from ampd_ray.materialize.assemble import Assembler, CutSegment, Limits
from ampd_ray.materialize.plan import after, one_pass, plan
from ampd_ray.store.layout import file_name

NETWORK = "test"


def block_hash(number: int, branch: int) -> bytes:
    """Its hash; that of the parent of block 0 is zero."""
    return bytes(32) if number < 0 else (number + 1).to_bytes(16, "big") + branch.to_bytes(16, "big")


@dataclass
class Node:
    """Serves one of its branches; a branch says, for each block, which branch first had it."""

    branches: list[list[int]] = field(default_factory=lambda: [[0]])
    serves: int = 0
    claims: bytes | None = None  # the hash that it gives its head, if that is not of the chain that it serves

    @property
    def chain(self) -> list[int]:
        return self.branches[self.serves]

    @property
    def head(self) -> int:
        return len(self.chain) - 1

    def hash(self, number: int) -> bytes:
        return block_hash(number, self.chain[number] if number >= 0 else 0)

    def grow(self, blocks: int) -> None:
        self.chain.extend([self.serves] * blocks)

    def fork(self, depth: int, blocks: int) -> None:
        """Go over to a new branch without the last ``depth`` blocks of this one, but ``blocks`` of its own."""
        self.branches.append(self.chain[: max(len(self.chain) - depth, 1)])
        self.serves = len(self.branches) - 1
        self.grow(blocks)

    def switch(self, branch: int) -> None:
        """Go back to an earlier branch, as it was."""
        self.serves = branch % len(self.branches)

    def links(self, span: Span) -> BlockLinks:
        return BlockLinks.from_blocks(
            (number, self.hash(number), self.hash(number - 1), 1000 + number)
            for number in range(span.start, span.end + 1)
        )


@dataclass
class Follower:
    """Follows a node as a job does, one pass at a time. ``fetched`` counts blocks."""

    node: Node
    start: int = 0
    unit_blocks: int = 1_000
    file_blocks: int = 1_000
    table: GrowingTable = field(default_factory=GrowingTable)
    held: list[Segment] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    epoch: int = 1
    fetched: int = 0

    def step(self, top: int | None = None) -> bool:
        """One pass up to ``top``, else to the head; False if nothing is lacking."""
        beside = (
            after(self.node.head, self.node.claims or self.node.hash(self.node.head), NETWORK) if top is None else None
        )
        top = self.node.head if top is None else top
        if top < self.start:
            return False
        wanted = Span(self.start, top)
        found = self.table.lacking_at_once(wanted, beside) or self.table.lacking(wanted, beside)
        units = one_pass(plan({"blocks": found.spans}, unit_blocks=self.unit_blocks), density_known=True, writers=1)
        if found.repairs:
            self.epoch += 1
        for unit in units:
            self._write(unit.span)
        return bool(units)

    def settle(self, top: int | None = None, *, within: int = 200) -> int:
        """Passes until nothing is lacking."""
        for passes in range(within):
            if not self.step(top):
                return passes
        raise AssertionError(f"still lacking after {within} passes")

    @property
    def canonical(self) -> list[Segment]:
        chain = resolve(self.held)
        return list(chain.canonical) if chain else []

    def follows(self) -> bool:
        """True if the canonical chain is the node's, block by block as far as its files tell."""
        files = self.canonical
        hashes = [(s.range.prev_hash, s.range.hash) for s in files]
        served = [(self.node.hash(s.range.start - 1), self.node.hash(s.range.end)) for s in files]
        return files[0].range.start == self.start and files[-1].range.end == self.node.head and hashes == served

    def _write(self, span: Span) -> None:
        known = {segment.file_id: segment.range for segment in self.table.overlapped(span)}
        again = self.table.again(span)
        assembler = Assembler([span], Limits(bytes=2**40, blocks=self.file_blocks))
        self.fetched += len(span)
        for cut in assembler.push(span, self.node.links(span), None, 1):
            if isinstance(cut, CutSegment):
                self._commit(BlockRange(NETWORK, cut.start, cut.end, cut.hash, cut.prev_hash), known, again)

    def _commit(self, range_: BlockRange, known: dict[int, BlockRange], again: frozenset[int]) -> None:
        file_id = twin(range_, known, again)
        if file_id is not None:
            self.table.confirm(file_id, range_.span)
            return
        name = file_name(
            location_id=1,
            network=range_.network,
            start=range_.start,
            end=range_.end,
            start_parent=range_.prev_hash,
            end_hash=range_.hash,
            generation=0,
            writer_version=1,
            epoch=self.epoch,
        )
        assert name not in self.names, "another file has this name"
        self.names.add(name)
        segment = Segment(len(self.held) + 1, range_, created_ns=len(self.held) + 1)
        self.held.append(segment)
        self.table.add(segment)
