"""SQL lives in files beside the verbs that use it, as named blocks, each with a sentence that says what it does.

A block is::

    -- name: beat
    -- Say that this node is alive; no row when it was never registered.
    update workers set ...

Values are bound as ``%(name)s``; nothing is ever formatted into SQL. Every block is PREPAREd against the real
schema in the tests.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_HEADER: Final = re.compile(r"^-- name: *(?P<name>[a-z][a-z0-9_]*) *$", re.MULTILINE)


class Query(bytes):
    """One named block, ready for ``conn.execute(query, {...})``."""

    name: str
    sentence: str

    def __new__(cls, name: str, sentence: str, text: str) -> Query:
        """Keep the text as bytes, which psycopg takes without asking where a string came from."""
        query = super().__new__(cls, text.encode())
        query.name = name
        query.sentence = sentence
        return query

    def __repr__(self) -> str:
        return f"<Query {self.name}: {self.sentence}>"


def load(module_file: str | Path) -> dict[str, Query]:
    """The named blocks of the ``.sql`` file beside a module: ``load(__file__)``.

    Raises ValueError for text before the first name, a name used twice, a block without its sentence or its SQL.
    """
    path = Path(module_file).with_suffix(".sql")
    return parse(path.read_text(encoding="utf-8"), path.name)


def parse(text: str, source: str) -> dict[str, Query]:
    """The named blocks of ``text``; ``source`` names it in errors."""
    before, *rest = _HEADER.split(text)
    if before.strip():
        raise ValueError(f"{source}: text before the first '-- name:'")
    queries: dict[str, Query] = {}
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        if name in queries:
            raise ValueError(f"{source}: two blocks are named {name}")
        queries[name] = _block(name, body.strip(), source)
    return queries


def _block(name: str, body: str, source: str) -> Query:
    lines = body.splitlines()
    count = next((at for at, line in enumerate(lines) if not line.startswith("--")), len(lines))
    sentence = " ".join(line.removeprefix("--").strip() for line in lines[:count])
    sql = "\n".join(lines[count:]).strip()
    if not sentence or not sql:
        raise ValueError(f"{source}: block {name} needs a sentence and a statement")
    return Query(name, sentence, sql)
