"""I9: a canary that stands wherever a secret may stand is in no log, row, file or process title."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

TABLES = "select schemaname || '.' || tablename from pg_tables where schemaname in ('public', 'ampd_ray') order by 1"
LARGE = ("public.file_metadata", "public.footer_cache", "ampd_ray.segment")


class Canary:
    """Looks for ``word``; of logs only at what is new since the last look."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._read: dict[Path, int] = {}

    def in_logs(self, directories: Sequence[Path]) -> Iterator[str]:
        """The logs below these directories, those of Ray among them."""
        for directory in directories:
            for path in directory.rglob("*"):
                if path.is_file() and path.suffix in (".log", ".out", ".err"):
                    yield from self._in_log(path)

    def _in_log(self, path: Path) -> Iterator[str]:
        with path.open("rb") as log:
            log.seek(max(0, self._read.get(path, 0) - len(self._word)))
            text = log.read()
            self._read[path] = log.tell()
        if self._word.encode() in text:
            yield f"I9 {path}: a secret"

    def in_rows(self, connection: psycopg.Connection[Any], *, all_tables: bool) -> Iterator[str]:
        """Every column of every table, as text and as bytes; and what sessions say of themselves."""
        tables = [name for (name,) in connection.execute(TABLES).fetchall() if all_tables or name not in LARGE]
        shapes = [f"%{self._word}%", f"%{self._word.encode().hex()}%"]
        for table in tables:
            found = connection.execute(f"select exists (select from {table} t where t::text like any (%s))", [shapes])
            if found.fetchone() == (True,):
                yield f"I9 {table}: a secret"
        names = connection.execute("select application_name from pg_stat_activity").fetchall()
        if any(self._word in name for (name,) in names):
            yield "I9 pg_stat_activity: a secret"

    def in_titles(self, pids: Sequence[int]) -> Iterator[str]:
        """The command lines of processes."""
        for pid in pids:
            with suppress(psutil.Error):
                if self._word in " ".join(psutil.Process(pid).cmdline()):
                    yield f"I9 process {pid}: a secret in its title"

    def in_file(self, path: Path) -> Iterator[str]:
        """One object of the data directory."""
        if path.is_file() and self._word.encode() in path.read_bytes():
            yield f"I9 {path}: a secret"
