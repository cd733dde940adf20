"""The roles of least privilege: what a worker's sessions, or a reader's, may do in the database, and no more.

``grants.sql`` says it, table by table. ``ampd migrate`` gives it to roles that exist, as the owner of the tables; a
worker asks at its start whether it has what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from psycopg import sql

from ampd_ray.errors import SchemaMismatch, UsageError
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.queries import Query, load

_SQL: Final = load(__file__)
_GRANT: Final = re.compile(
    r"^grant (?P<rights>.+) on (?P<relation>(?:public|ampd_ray)\.\w+) to \{role\};$", re.MULTILINE
)
_RIGHT: Final = re.compile(r"(?P<privilege>\w+)(?: \((?P<columns>[\w, ]+)\))?")
_BEYOND: Final = {
    "tables": ("create tables in schema public", "revoke create on schema public from public, {role}"),
    "schemas": ("create schemas", "revoke create on database {database} from public, {role}"),
    "temporary": ("create temporary tables", "revoke temporary on database {database} from public, {role}"),
}


class Access(StrEnum):
    """What a role is for."""

    WORKER = "worker"  # of workers, and of clients and commands that change something
    READER = "reader"  # of clients and commands that only look


@dataclass(frozen=True, slots=True)
class Right:
    """One privilege on a table, or on one of its columns."""

    privilege: str
    relation: str
    column: str = ""

    def __str__(self) -> str:
        return f"{self.privilege}{self.column and f' ({self.column})'} on {self.relation}"


def rights(access: Access) -> tuple[Right, ...]:
    """All that a role of this kind may do with tables, but to read Amp's list of migrations."""
    found = [*_rights(_SQL["reader"])]
    if access is Access.WORKER:
        found += _rights(_SQL["worker"])
    return tuple(found)


def _rights(block: Query) -> Iterator[Right]:
    for grant in _GRANT.finditer(block.decode()):
        for right in _RIGHT.finditer(grant["rights"]):
            for column in (right["columns"] or "").split(", "):
                yield Right(right["privilege"], grant["relation"], column)


async def grant(conn: Connection, role: str, access: Access, *, database: str, amp: bool) -> list[str]:
    """Let a role do exactly what ``access`` needs, in this transaction; warnings of what it may do beyond.

    ``amp``: the database is one that Amp migrates. Raises UsageError for a role that is not there, or has all rights
    by what it is.
    """
    await _refuse_unfit(conn, role)
    blocks = [
        "connect",
        *(["connect_to_amp"] if amp else []),
        "reader",
        *(["worker"] if access is Access.WORKER else []),
    ]
    for block in blocks:
        await conn.execute(_named(_SQL[block].decode(), role, database).encode())
    excess = await (await conn.execute(_SQL["excess"], {"role": role})).fetchone()
    return [
        f"role {role} may also {may}; nobody of ours needs it: `{_named(statement, role, database)}`"
        for fact, (may, statement) in _BEYOND.items()
        if getattr(excess, fact)
    ]


async def check_rights(conn: Connection) -> None:
    """Raise SchemaMismatch when this session's role may not do all that a worker does."""
    wanted = rights(Access.WORKER)
    values = {
        "privileges": [right.privilege for right in wanted],
        "relations": [right.relation for right in wanted],
        "cols": [right.column for right in wanted],
    }
    lacking = [Right(*row) for row in await (await conn.execute(_SQL["lacking"], values)).fetchall()]
    if lacking:
        raise SchemaMismatch(
            f"the role {conn.info.user} may not do all that a worker does in the metadata database: it lacks "
            f"{', '.join(map(str, lacking))}. Have the owner run `ampd migrate --grant {conn.info.user}`.",
            role=conn.info.user,
        )


async def _refuse_unfit(conn: Connection, role: str) -> None:
    found = await (await conn.execute(_SQL["fitness"], {"role": role})).fetchone()
    if found is None:
        statement = _named("create role {role} login password '...'", role, "")
        raise UsageError(f"there is no role {role} to grant anything to; first have it made: `{statement}`", role=role)
    if found.superuser or found.owner:
        reason = "is a superuser" if found.superuser else "owns the tables, or is a member of the role that does"
        raise UsageError(f"role {role} {reason}: no grant can limit it. Name another role.", role=role)


def _named(statement: str, role: str, database: str) -> str:
    """The statement for this role and database, quoted as identifiers."""
    words = {"role": role, "database": database}
    return re.sub(r"\{(role|database)\}", lambda word: sql.Identifier(words[word[1]]).as_string(), statement)
