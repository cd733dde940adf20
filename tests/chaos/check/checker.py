"""All checks together: once over one dataset, or again and again over a world that goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.check import control, coverage, objects, processes, witness
from tests.chaos.check.chain import Dump
from tests.chaos.check.files import TABLES, File, read_files
from tests.chaos.check.secrets import Canary
from tests.chaos.check.story import Story, judge

LEASES = "select location_id, epoch from ampd_ray.location_lease"
REGISTERED = "select from file_metadata where id = %s"
SWEPT_SECS = 6.0  # two sweeps, and some patience
DRAWN_EVERY_SECS = 0.5


def check(url: str, dataset: str, first: int, last: int) -> list[str]:
    """Everything that is wrong with blocks ``first`` to ``last`` of ``dataset``; an empty list is the good answer."""
    with psycopg.connect(url, autocommit=True) as connection:
        files = read_files(connection, dataset)
        problems = list(control.jobs(connection)) + _of_rows(connection, files, first, last)
    for file in files:
        problems += objects.content(file)[1]
    return problems


def _of_rows(connection: psycopg.Connection[Any], files: list[File], first: int, last: int) -> list[str]:
    epochs: dict[int, int] = dict(connection.execute(LEASES).fetchall())
    problems: list[str] = []
    for table in TABLES:
        of_table = [file for file in files if file.table == table]
        problems += coverage.exactly_once(table, of_table, first, last)
        problems += coverage.live_for_readers(table, of_table)
        problems += coverage.rising_epochs(table, of_table, epochs)
    return problems + list(coverage.same_coverage(files))


@dataclass
class Look:
    """What to look at. ``datasets``: name to first and last block; ``full``: everything anew, nothing forgiven."""

    datasets: Mapping[str, tuple[int, int]]
    pids: list[int] = field(default_factory=list)
    story: Story | None = None
    full: bool = False


class Checker:
    """Of one world: remembers which files it has looked into, and how things were."""

    def __init__(self, url: str, node_url: str, data_dir: Path, logs: list[Path], canary: str) -> None:
        self._url = url
        self._data_dir = data_dir
        self._logs = logs
        self.dump = Dump(node_url)
        self._canary = Canary(canary)
        self._epochs = control.Epochs()
        self._uses = processes.Uses()
        self._sound: set[tuple[int, bool | None]] = set()  # files whose content is good, and what they counted as
        with psycopg.connect(url, autocommit=True) as connection:
            witness.place(connection)

    def look(self, at: Look) -> dict[str, Any]:
        """The problems that there are, and how much was looked at."""
        problems, files, blocks = [], 0, 0
        self.dump.forget()
        if at.full:
            self._sound.clear()
        with psycopg.connect(self._url, autocommit=True) as connection:
            for dataset, (first, last) in at.datasets.items():
                found = read_files(connection, dataset)
                files, blocks = files + len(found), blocks + last - first + 1
                problems += _of_rows(connection, found, first, last)
                problems += [problem for file in found for problem in self._registered(connection, file)]
            problems += control.jobs(connection)
            problems += control.stuck(connection)
            problems += self._epochs.look(connection)
            problems += witness.testimony(connection)
            problems += self._leftovers(connection, strict=at.full)
            problems += self._canary.in_rows(connection, all_tables=at.full)
        problems += self._canary.in_logs(self._logs)
        problems += self._canary.in_titles(at.pids)
        problems += self._uses.look(at.pids)
        problems += processes.staging(self._data_dir / objects.STAGING)
        if at.story is not None:
            problems += judge(at.story)
        return {"problems": problems, "files": files, "blocks": blocks}

    def _registered(self, connection: psycopg.Connection[Any], file: File) -> list[str]:
        """What is wrong with a file, unless it was set aside, and collected while we looked: its row goes first."""
        problems = list(self._file(file))
        gone = problems and not file.canonical and connection.execute(REGISTERED, [file.id]).fetchone() is None
        return [] if gone else problems

    def _file(self, file: File) -> Iterator[str]:
        if (file.id, file.canonical) in self._sound:
            yield from objects.is_there(file)
            return
        table, problems = objects.content(file)
        if table is not None and file.canonical:
            problems += self.dump.compare(file, table)
        problems += self._canary.in_file(file.path)
        if not problems:
            self._sound.add((file.id, file.canonical))
        yield from problems

    def _leftovers(self, connection: psycopg.Connection[Any], *, strict: bool) -> list[str]:
        """What is still there when two sweeps should have taken it."""
        deadline = time.monotonic() + SWEPT_SECS
        while found := objects.unknown(connection, self._data_dir, strict=strict):
            if time.monotonic() > deadline:
                break
            time.sleep(DRAWN_EVERY_SECS)
        return found
