"""A person's SQL: one statement that reads, and DuckDB's errors in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ampd_ray.client.frames import library
from ampd_ray.errors import InvalidQuery, StoreError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_OF_STORE: Final = re.compile(r"^(?:ObjectMissing|Store\w+): (.*)", re.MULTILINE)  # ends a traceback that DuckDB tells


def check_select(con: DuckDBPyConnection, text: str) -> None:
    """One statement that reads. Raises InvalidQuery, and DuckDB's errors."""
    statements = con.extract_statements(text)
    if len(statements) != 1:
        raise InvalidQuery(f"expected one select, found {len(statements) or 'no'} statements")
    kind, kinds = statements[0].type, library("duckdb").StatementType
    if kind == kinds.MULTI:  # whatever has such a pivot in it, be it a copy to a file
        raise InvalidQuery("a pivot is run here if it names its columns: pivot logs on topic in ('a', 'b') using …")
    if kind != kinds.SELECT:
        raise InvalidQuery(f"only a select is run here, and this is a {kind.name.lower()}: nothing is changed")


@contextmanager
def explained() -> Iterator[None]:
    """DuckDB's errors as one line; those of later rows come as Arrow's, which are ``OSError``.

    Raises InvalidQuery, StoreError for what cannot be read, KeyboardInterrupt.
    """
    try:
        yield
    except (library("duckdb").Error, OSError) as error:
        if told := _OF_STORE.search(str(error)):
            raise StoreError(told[1]) from None
        message = " ".join(str(error).partition("\n\nLINE")[0].split())
        if not message.startswith("IO Error"):
            raise InvalidQuery(message) from None
        raise StoreError(f"{message}. If it is a file of a dataset, run it again, or see `ampd check`.") from None
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        raise KeyboardInterrupt from None
