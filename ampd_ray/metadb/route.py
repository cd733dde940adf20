"""The way to a database: where it is, and what each session is asked to be (``spec/metadata-db.md`` 1.1, 1.5, 1.6).

Settings go along as start-up options. A pooler may refuse those. Then a session is told the most needed of them later,
by statements that poolers remember for a client; limits are set in transactions and kept by ourselves.

What leaves this machine goes to the host that was named, proved by its certificate, unless somebody has said otherwise.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import namedtuple_row

from ampd_ray.config import authorities, is_loopback
from ampd_ray.errors import ConfigError, NotUtc
from ampd_ray.metadb.faults import refuses_options
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.session import STATEMENT_TIMEOUT, Connection

_SQL: Final = load(__file__)
_log: Final = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = timedelta(seconds=5)

SETTINGS: Final = {
    "timezone": "UTC",
    "DateStyle": "ISO,MDY",
    "search_path": "public",
    "statement_timeout": f"{STATEMENT_TIMEOUT.seconds}s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_CLIENT: Final = {
    "client_encoding": "UTF8",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
CONNECT: Final[dict[str, Any]] = {
    "autocommit": True,
    # Server-side prepared statements break behind transaction poolers, and our statements are rare.
    "prepare_threshold": None,
    "row_factory": namedtuple_row,
}


class Route:
    """How to reach the database of ``url``. ``name`` is host, port and database: never the DSN.

    Raises ConfigError for a ``url`` that libpq cannot read.
    """

    def __init__(self, url: str, application_name: str) -> None:
        given = _read(url)
        host = str(given.get("host") or given.get("hostaddr") or "localhost")
        self.name = f"{host}:{given.get('port') or 5432}/{given.get('dbname') or given.get('user') or ''}"
        own = _CLIENT | {
            "application_name": application_name,
            "connect_timeout": str(given.get("connect_timeout") or CONNECT_TIMEOUT.seconds),
        }
        own |= _proof(given)
        if "," in host and "target_session_attrs" not in given:
            own["target_session_attrs"] = "read-write"  # of several servers, the primary
        self._bare = make_conninfo(url, **own)
        options = " ".join(f"-c {key}={value}" for key, value in SETTINGS.items())
        # Ours come last: of two values for one setting the server takes the last.
        self.conninfo = make_conninfo(self._bare, options=f"{given.get('options') or ''} {options}".strip())

    async def connect(self) -> Connection:
        """One attempt at a session in autocommit, to be prepared. Raises what psycopg raises."""
        try:
            return await Connection.connect(self.conninfo, **CONNECT)
        except psycopg.OperationalError as error:
            if self.conninfo == self._bare or not refuses_options(error):
                raise
        _log.info("a pooler before the database at %s refuses session options; going on without", self.name)
        self.conninfo = self._bare
        return await Connection.connect(self.conninfo, **CONNECT)

    async def prepare(self, conn: Connection) -> None:
        """Make a new session what it has to be. Raises NotUtc."""
        if self.conninfo == self._bare:
            await conn.execute(_SQL["speak_utc"], {"zone": SETTINGS["timezone"], "style": SETTINGS["DateStyle"]})
        await self.check(conn)

    async def check(self, conn: Connection) -> None:
        """Prove that a session speaks UTC, whatever a pooler or a role's default make of it. Raises NotUtc."""
        row = await (await conn.execute(_SQL["time_zone"])).fetchone()
        if row is None or row.zone != "UTC":
            raise NotUtc(
                f"the metadata database at {self.name} gives us sessions in time zone {row and row.zone}, not UTC: "
                "a pooler or a role setting overrides ours. Connect directly, or set timezone to UTC there."
            )


def _proof(given: dict[str, Any]) -> dict[str, str]:
    """How a server elsewhere has to prove who it is, where neither URL nor environment says.

    libpq by itself would take any certificate, and go on without one where the server, or whoever is in between, has
    none. The authorities are those that providers are held against too.
    """
    hosts = str(given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST") or "").split(",")
    elsewhere = "service" in given or "PGSERVICE" in os.environ or not all(map(_is_here, hosts))
    if not elsewhere or "sslmode" in given or "PGSSLMODE" in os.environ:
        return {}
    proof = {"sslmode": "verify-full"}
    if "sslrootcert" not in given and "PGSSLROOTCERT" not in os.environ:
        proof["sslrootcert"] = authorities() or "system"
    return proof


def _is_here(host: str) -> bool:
    """True for loopback, for the directory or name of a local socket, and where no host is named."""
    return not host or host.startswith(("/", "@")) or is_loopback(host)


def _read(url: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:
        # libpq quotes the text, password and all.
        message = "`metadata_db.url` is not a Postgres URL, such as postgresql://user:password@host:5432/database"
        raise ConfigError(message) from None
