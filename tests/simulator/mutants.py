"""The product with one guard switched off. Each shows by an invariant that the checker has to find broken.

Guards are switched off by changing the SQL that is loaded, or a function; a change that changes nothing is an error,
so that no rewording of the product can turn a mutant into the product itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

from ampd_ray.errors import Overlap
from ampd_ray.materialize import write
from ampd_ray.metadb import files, jobs, leases, sweep, workers
from ampd_ray.metadb.queries import Query
from ampd_ray.store.layout import file_name

Change = Callable[[ExitStack], None]


@dataclass(frozen=True)
class Mutant:
    """``shows``: the invariants that break; others are not looked at. ``exclusion``: False for one that lives only
    where the database itself does not refuse overlaps."""

    name: str
    changes: tuple[Change, ...]
    shows: Collection[str]
    exclusion: bool | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The product is this one."""
        with ExitStack() as stack:
            for change in self.changes:
                change(stack)
            yield


def sql(module: ModuleType, name: str, *replacements: tuple[str, str]) -> Change:
    """A statement of ``module`` with other words in it."""

    def change(stack: ExitStack) -> None:
        query: Query = module._SQL[name]
        text = query.decode()
        for old, new in replacements:
            assert old in text, f"{name} says {old!r} no more: {text}"
            text = text.replace(old, new)
        stack.enter_context(mock.patch.dict(module._SQL, {name: Query(name, query.sentence, text)}))

    return change


def nameless_epoch(stack: ExitStack) -> None:
    """File names without the epoch."""
    given: dict[str, Any] = {
        "location_id": 1, "network": "n", "start": 1, "end": 2, "start_parent": b"p", "end_hash": b"h",
        "generation": 0, "writer_version": 1,
    }  # fmt: skip

    def without(**ingredients: Any) -> str:
        return file_name(**{**ingredients, "epoch": 0})

    assert vars(write)["file_name"] is file_name
    assert file_name(**given, epoch=1) != file_name(**given, epoch=2)
    assert without(**given, epoch=1) == without(**given, epoch=2)
    stack.enter_context(mock.patch.object(write, "file_name", without))


def overlaps_unasked(stack: ExitStack) -> None:
    """Commits do not mind that somebody else has these blocks by now."""
    ask = files._known_overlaps

    async def unmoved(*about: Any) -> bool:
        try:
            return await ask(*about)
        except Overlap:
            return False

    stack.enter_context(mock.patch.object(files, "_known_overlaps", unmoved))


NO_LEASE_CHECK = sql(
    leases, "lock_for_commit", (" and held.epoch = l.epoch", ""), ("l.incarnation = %(incarnation)s", "true")
)
BOUND = ("i.epoch < l.epoch", "true")

MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant("lease-check", (NO_LEASE_CHECK,), ("I6",)),
        Mutant("sweep-bound", (sql(sweep, "superseded", BOUND), sql(sweep, "mark_swept", BOUND)), ("I2",)),
        Mutant("name-epoch", (nameless_epoch,), ("I2",)),
        Mutant("overlap", (NO_LEASE_CHECK, overlaps_unasked), ("I1",), exclusion=False),
        Mutant("incarnation", (sql(workers, "is_incarnation", (" and incarnation = %(incarnation)s", "")),), ("I5",)),
        Mutant("job-node", (sql(jobs, "transition", (" and node_id = %(node_id)s", "")),), ("I5",)),
    )
}
