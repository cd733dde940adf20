"""What must hold (``spec/commit.md`` 8), found out by plain SQL and the objects; no code of the product is asked.

After each commit: I2, I5 and I6, and of I1 that no two live files share a block. At the end, when all faults are
over: I1, I3 and I7 as well.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from tests.simulator.kernel import Kernel
    from tests.simulator.process import Process

LOOK = """
select json_build_object(
    'files', (
        select coalesce(json_agg(json_build_object(
            'id', f.id, 'location', f.location_id, 'url', f.url || f.file_name, 'size', f.object_size,
            'sha256', encode(s.sha256, 'hex'), 'epoch', s.epoch, 'canonical', s.canonical,
            'first', lower(s.blocks), 'last', upper(s.blocks) - 1, 'about', f.metadata
        ) order by f.id), '[]')
        from file_metadata f left join ampd_ray.segment s on s.file_id = f.id
    ),
    'epochs', (select coalesce(json_object_agg(location_id, epoch), '{}') from ampd_ray.location_lease),
    'events', (
        select coalesce(
            json_agg(json_build_array(id, job_id, node_id, event_type, detail, xmin::text::bigint) order by id), '[]')
        from job_events where id > %s
    ),
    'nodes', (select coalesce(json_object_agg(node_id, incarnation), '{}') from ampd_ray.node_lease),
    'now', pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    'jobs', (select coalesce(json_agg(json_build_array(job_id, status, node_id)), '[]') from jobs_status)
) as found
"""
LEFT = """
select (select coalesce(json_agg(url), '[]') from ampd_ray.tombstone) as tombstones,
       (select count(*) from ampd_ray.file_intent) as intents,
       (select count(*) from gc_manifest) as waiting
"""
# From each status, those that may follow it (metadata-db.md 5.2); a job that changes hands is RUNNING again (7.6).
LEGAL: Mapping[str | None, Collection[str]] = {
    None: ("SCHEDULED",),
    "SCHEDULED": ("RUNNING", "STOP_REQUESTED", "ERROR", "FATAL"),
    "RUNNING": ("STOP_REQUESTED", "COMPLETED", "ERROR", "FATAL"),
    "STOP_REQUESTED": ("STOPPING",),
    "STOPPING": ("STOPPED",),
    **dict.fromkeys(("STOPPED", "COMPLETED", "ERROR", "FATAL"), ("SCHEDULED",)),
}
TERMINAL = ("STOPPED", "COMPLETED", "ERROR", "FATAL")
URL = "mem://data/"


class Violation(Exception):
    """An invariant does not hold; ``invariant`` is its name."""

    def __init__(self, invariant: str, message: str):
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant


@dataclass(frozen=True)
class File:
    """A registered file, with its segment."""

    id: int
    location: int
    url: str
    size: int
    sha256: str | None
    epoch: int | None
    canonical: bool | None
    first: int
    last: int
    about: dict[str, Any]

    @property
    def path(self) -> str:
        return self.url.removeprefix(URL)

    @property
    def range(self) -> dict[str, Any]:
        (only,) = self.about["ranges"]
        found: dict[str, Any] = only
        return found

    def __str__(self) -> str:
        return f"file {self.id} of revision {self.location}, blocks {self.first}..{self.last}, epoch {self.epoch}"


class Checker:
    """Looks after each commit. ``granted``: the highest epoch of each revision so far.

    ``found``: the first violation; it is not raised, since the product would handle it. ``only``: the invariants to
    insist on; None: all.
    """

    def __init__(
        self, admin: psycopg.Connection[Any], kernel: Kernel, objects: Mapping[str, bytes], tables: Sequence[str],
        end: int,
    ):  # fmt: skip
        self.granted: dict[int, int] = {}
        self.found: Violation | None = None
        self.only: Collection[str] | None = None
        self.takeovers = 0
        self.collected = 0
        self._admin = admin
        self._kernel = kernel
        self._objects = objects
        self._tables = tables
        self._end = end
        self._registered: dict[str, File] = {}
        self._last_event = 0
        self._history: dict[int, str] = {}
        self._first_seen: set[int] = set()
        self._runs: dict[str, tuple[str, int]] = {}  # by node: who runs it, and the first transaction that may know

    @property
    def status(self) -> str | None:
        """That of the newest event; there is one job."""
        return next(iter(self._history.values()), None)

    def look(self, process: Process | None) -> None:
        """A transaction of ``process`` has just been committed."""
        found = self._admin.execute(LOOK, (self._last_event,)).fetchone()
        assert found is not None
        files = [File(**each) for each in found[0]["files"]]
        self._epochs(files, {int(at): epoch for at, epoch in found[0]["epochs"].items()})
        for file in files:
            self._object(file)
        self._disjoint(files)
        registered = {file.path: file for file in files}
        self.collected += len(self._registered.keys() - registered.keys())
        self._registered = registered
        for node_id, incarnation in found[0]["nodes"].items():
            if self._runs.get(node_id, ("", 0))[0] != incarnation:
                self._runs[node_id] = (incarnation, found[0]["now"])
        self._events(found[0]["events"], process)
        for job_id, status, node_id in found[0]["jobs"]:
            self._demand("I5", status == self._history[job_id], f"job {job_id} is {status} on {node_id}")
            if status == "COMPLETED" and found[0]["events"]:
                self._complete(files)

    def deleting(self, path: str) -> None:
        """An object is about to be deleted."""
        self._demand("I2", path not in self._registered, f"the object of {self._registered.get(path)} is deleted")

    def crashed(self, error: BaseException) -> None:
        """The product met an exception that it did not foresee."""
        self._demand("crash", False, f"{type(error).__name__}: {error}")

    def deadlocked(self) -> None:
        """Two transactions wait for each other: locks are not taken in order."""
        self._demand("locks", False, "a deadlock")

    def finish(self) -> None:
        """Everything is over and swept."""
        self.look(None)
        left = self._admin.execute(LEFT).fetchone()
        assert left is not None
        self._complete(list(self._registered.values()))
        buried = {url.removeprefix(URL) for url in left[0]}
        stray = sorted({*self._objects} - {*self._registered} - buried)
        self._demand("I3", not stray, f"objects that nothing knows: {stray}")
        self._demand("I3", not left[0] and not left[1], f"left after two sweeps: {left}")

    # -- each of them -----------------------------------------------------------------------------------------------

    def _epochs(self, files: Sequence[File], epochs: Mapping[int, int]) -> None:
        for file in files:
            if file.id not in self._first_seen:
                self._first_seen.add(file.id)
                granted = self.granted.get(file.location, 0)
                self._demand("I6", file.epoch == granted, f"{file} was committed after epoch {granted} was granted")
        for at, epoch in epochs.items():
            self._demand("I6", epoch >= self.granted.get(at, 0), f"the epoch of revision {at} fell to {epoch}")
            self.granted[at] = epoch

    def _object(self, file: File) -> None:
        content = self._objects.get(file.path)
        if content is None:
            self._demand("I2", False, f"{file} has no object")
            return
        if self._registered.get(file.path) == file:
            return
        same = (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
        self._demand("I2", same, f"{file} has another object than its row says")
        held = json.loads(content)
        self._demand("I2", held["about"] == file.about, f"{file} and its object say different things")
        numbers = [number for number, _ in held["blocks"]]
        self._demand("I2", numbers == list(range(file.first, file.last + 1)), f"{file} holds blocks {numbers}")
        self._demand("I2", "0x" + held["blocks"][-1][1] == file.range["hash"], f"{file} holds another branch")

    def _disjoint(self, files: Sequence[File]) -> None:
        reach: dict[int, File] = {}
        for file in sorted((file for file in files if file.canonical), key=lambda file: (file.location, file.first)):
            before = reach.get(file.location)
            self._demand("I1", before is None or before.last < file.first, f"{before} and {file} overlap")
            reach[file.location] = file

    def _events(self, events: Sequence[Any], process: Process | None) -> None:
        for event_id, job_id, node_id, kind, detail, transaction in events:
            before = self._history.get(job_id)
            claimed = "reassigned_from" in (detail or {})
            moved = claimed and before == kind == "RUNNING"
            self.takeovers += claimed
            self._demand("I5", moved or kind in LEGAL[before], f"{before} was followed by {kind}")
            writer = process.node_id if process is not None else None
            self._demand("I5", writer in (None, node_id), f"{writer} wrote {kind} for {node_id}")
            if process is not None and process.incarnation is not None:
                runs, since = self._runs[node_id]
                ours = str(process.incarnation) == runs or transaction < since
                self._demand("I5", ours, f"{process.name} wrote {kind} for {node_id}, which another process runs")
            self._demand("end", kind != "FATAL", f"a job is given up: {detail}")
            self._history[job_id] = kind
            self._last_event = event_id

    def _complete(self, files: Sequence[File]) -> None:
        """I1, I7: in each table the live files hold each block just once, and follow each other."""
        held: dict[int, list[int]] = defaultdict(list)
        ends: dict[int, str] = {}
        for file in sorted((file for file in files if file.canonical), key=lambda file: file.first):
            held[file.location] += range(file.first, file.last + 1)
            before = ends.get(file.location, file.range["prev_hash"])
            self._demand("I1", before == file.range["prev_hash"], f"{file} is of another branch than the one before")
            ends[file.location] = file.range["hash"]
        wanted = list(range(self._end + 1))
        for at, table in enumerate(self._tables, 1):
            self._demand("I1", sorted(held[at]) == wanted, f"{table} holds blocks {sorted(held[at])}")
        self._demand("I7", len({tuple(sorted(blocks)) for blocks in held.values()}) == 1, f"tables differ: {held}")

    def _demand(self, invariant: str, holds: bool, message: str) -> None:
        if not holds and self.found is None and (self.only is None or invariant in self.only):
            self.found = Violation(invariant, message)
            self._kernel.note(str(self.found))
