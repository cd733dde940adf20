"""A real PgBouncer in transaction mode before a server on a local socket."""

import functools
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.fakes.process import running
from tests.install_debian import CACHE, PGBOUNCER, InstallError, Program, install
from tests.servers import OWNER, READER, WORKER


@functools.cache
def pgbouncer_or_skip() -> Program:
    """The program; without it the test is skipped."""
    try:
        return install(PGBOUNCER, CACHE / PGBOUNCER.name)
    except InstallError as error:
        pytest.skip(f"no PgBouncer here: {error}")


@contextmanager
def pgbouncer(url: str, **settings: object) -> Iterator[str]:
    """A URL of the database ``url`` through PgBouncer; ``settings`` are keys of its section ``[pgbouncer]``."""
    found = pgbouncer_or_skip()
    info = conninfo_to_dict(url)
    port = _free_port()
    keys: dict[str, object] = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "pool_mode": "transaction",
        "auth_file": "users.txt",
    } | settings
    server = " ".join(f"{key}={info[key]}" for key in ("host", "port") if key in info)
    lines = ["[databases]", f"* = {server}", "[pgbouncer]", *(f"{key} = {value}" for key, value in keys.items())]
    folder = Path(tempfile.mkdtemp(prefix="ampd-pgbouncer-"))
    try:
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        (folder / "users.txt").write_text("".join(f'"{user}" ""\n' for user in (OWNER, WORKER, READER)))
        # The server's socket is its user's alone, who is not root: nor may PgBouncer be.
        owner = pwd.getpwuid(Path(str(info["host"])).stat().st_uid).pw_name
        user = ["-u", owner] if os.geteuid() == 0 else []
        command = ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), str(found.file), *user, "pgbouncer.ini"]
        with running(command, r"process up: PgBouncer", env=found.env):
            yield f"postgresql://{info['user']}@127.0.0.1:{port}/{info['dbname']}?sslmode=disable&gssencmode=disable"
    finally:
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
