"""What a psycopg error means: try again, go on elsewhere, or give up (``spec/metadata-db.md`` 1.8, 1.9)."""

from __future__ import annotations

import re
from typing import Final

import psycopg

from ampd_ray.errors import (
    AmpdError,
    DatabaseFault,
    DatabaseReadOnly,
    DatabaseRefused,
    DatabaseUnavailable,
    SchemaMismatch,
)

_TRANSIENT_CLASSES: Final = ("08", "53")
_TRANSIENT: Final = frozenset(
    {
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # lock timeout
        "57014",  # statement timeout
        "57P01",  # shutdown by the administrator
        "57P02",  # crash of another session
        "57P03",  # starting up or shutting down
        "57P05",  # idle session timeout
        "25P03",  # idle in transaction timeout
    }
)
_READ_ONLY: Final = "25006"
_FORBIDDEN: Final = "42501"
_UNKNOWN_OBJECTS: Final = frozenset({"42P01", "42703", "3F000"})  # table, column, schema

# libpq gives no SQLSTATE for a connection that never was, only the server's sentence.
_REFUSALS: Final = (
    (re.compile(r'database "[^"]*" does not exist'), "there is no such database: create it, or correct the name"),
    (re.compile(r"password authentication failed"), "the user or the password is wrong"),
    (re.compile(r"no password supplied|password missing"), "it asks for a password"),
    (re.compile(r'role "[^"]*" does not exist|Peer authentication failed'), "there is no such user"),
    (re.compile(r"no pg_hba.conf entry|not permitted to log in|permission denied for database"), "access is denied"),
    (
        re.compile(r"unsupported startup parameter"),
        "a pooler in between refuses the options of the URL",
    ),
    (
        re.compile(r"does not support SSL"),
        "it has no TLS: turn it on there, or, in a network that you trust, say sslmode=disable in the URL",
    ),
    (
        re.compile(r"certificate verify failed"),
        "its certificate is not of an authority that this machine trusts, or not valid any more: name the file of your "
        "authority as sslrootcert in the URL",
    ),
    (re.compile(r"server certificate for .* does not match host name"), "its certificate is for another host"),
    (
        re.compile(r"root certificate file|root\.crt"),
        "the file of trusted authorities cannot be read: correct sslrootcert in the URL",
    ),
)


def refuses_options(error: psycopg.Error) -> bool:
    """Whether a pooler in between takes no session options, so that sessions have to be set up without."""
    return "unsupported startup parameter" in str(error)


def is_spent(error: psycopg.Error) -> bool:
    """Whether the session, though it may be open, is of no use any more: it cannot write, or answers out of step.

    A pooler may pass the last words of a dying server on among the answers to the next question.
    """
    out_of_step = isinstance(error, psycopg.InternalError) and error.sqlstate is None
    return out_of_step or error.sqlstate == _READ_ONLY


def classify(error: psycopg.Error, where: str) -> AmpdError:
    """The error to raise for ``error`` from the database ``where`` ("host:port/name"; never a DSN)."""
    state = error.sqlstate
    place = f"the metadata database at {where}"
    if state is None:
        return _without_state(error, place)
    if state == _READ_ONLY:
        return DatabaseReadOnly(f"{place} is read-only: {_sentence(error)}", sqlstate=state)
    if state in _TRANSIENT or state.startswith(_TRANSIENT_CLASSES):
        return DatabaseUnavailable(f"{place}: {_sentence(error)}", sqlstate=state)
    if state == _FORBIDDEN:
        way_out = "Have the owner run `ampd migrate --grant ROLE`, or use a role that may"
        return DatabaseRefused(f"{place} refused us: {_sentence(error)}. {way_out}.", sqlstate=state)
    if state in _UNKNOWN_OBJECTS:
        return SchemaMismatch(f"{place} is not migrated: {_sentence(error)}. Run `ampd migrate`.", sqlstate=state)
    return DatabaseFault(f"{place}: {_sentence(error)}", sqlstate=state)


def _without_state(error: psycopg.Error, place: str) -> AmpdError:
    """An error that did not come from a statement: no connection, a broken one, or our misuse of psycopg."""
    text = str(error)
    for pattern, reason in _REFUSALS:
        if pattern.search(text):
            return DatabaseRefused(f"{place} refused us: {reason} (`metadata_db.url`).")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError):
        return DatabaseUnavailable(f"{place} does not answer: {_sentence(error)}")
    return DatabaseFault(f"{place}: {_sentence(error)}")


def _sentence(error: psycopg.Error) -> str:
    """The first line of the error, without psycopg's and libpq's preambles."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    line = text.strip().splitlines()[0]
    return re.sub(r"^(connection failed: )?(connection to server [^\n]*? failed: )?", "", line).rstrip(".")
