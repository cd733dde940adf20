"""Looking for words in the places where a cluster, its database and its files keep what they were told."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
from psycopg.sql import SQL, Identifier

PIECE = 16 << 20  # bytes


def spellings(word: str) -> list[bytes]:
    """The word as it is, in UTF-16, in hex, and as a part of anything in base64."""
    raw = word.encode()
    found = [raw, word.encode("utf-16-le"), raw.hex().encode()]
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw)
        found.append(whole[before + 1 : len(whole) - 4])  # without what depends on its neighbours
    return found


def counts(words: Mapping[str, str], where: Iterable[bytes]) -> Counter[str]:
    """How often each word is there, in any spelling, by its name."""
    looked_for = {name: spellings(word) for name, word in words.items()}
    found: Counter[str] = Counter()
    for text in where:
        for name, spelt in looked_for.items():
            found[name] += sum(map(text.count, spelt))
    return +found


def memory(process: psutil.Process, of: str = "") -> Iterator[bytes]:
    """The writable memory of a process; ``of`` names what is mapped there."""
    with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as bytes_of:
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
            where, rights, *_, name = line.split(maxsplit=5) if line.count(" ") > 5 else [*line.split(), ""]
            if "w" not in rights or of not in name:
                continue
            start, end = (int(each, 16) for each in where.split("-"))
            for at in range(start, end, PIECE):
                with suppress(OSError, OverflowError, ValueError):  # the kernel keeps some for itself
                    bytes_of.seek(at)
                    yield bytes_of.read(min(PIECE, end - at))


def files(directory: Path) -> Iterator[bytes]:
    """All below a directory: names and contents."""
    for path in directory.rglob("*"):
        yield str(path.relative_to(directory)).encode()
        if path.is_file() and not path.is_symlink():
            yield path.read_bytes()


def titles(processes: list[psutil.Process]) -> Iterator[bytes]:
    """What ``ps`` shows of processes."""
    for process in processes:
        with suppress(psutil.Error):
            yield "\0".join([process.name(), *process.cmdline()]).encode()


def rows(url: str) -> Iterator[bytes]:
    """All rows of all tables of a database, and what its server shows of those who use it."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select schemaname, tablename from pg_tables where schemaname <> all (%s)",
            [["pg_catalog", "information_schema"]],
        ).fetchall()
        for table in [*tables, ("pg_catalog", "pg_stat_activity")]:
            for (row,) in connection.execute(SQL("select t::text from {} t").format(Identifier(*table))):
                yield row.encode()
