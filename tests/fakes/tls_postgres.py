"""A real Postgres that takes sessions over TCP, with a certificate and with passwords, as one on another machine."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.postmaster import Postmaster
from ampd_ray.metadb.server_user import ServerUser
from tests.fakes.authority import Authority
from tests.fakes.hosts import free_port
from tests.servers import GRANTS, POSTGRES_15, WORKER, data_root, make_roles

HOST = "db.test"
PASSWORD = "correct-horse"
HBA = f"local all postgres trust\nhost all {','.join(GRANTS)} 127.0.0.1/32 scram-sha-256\n"


@dataclass(frozen=True)
class TlsPostgres:
    """Its certificate is for ``HOST``; names are not resolved here, since each URL says the address."""

    port: int
    owner_url: str

    def url(self, host: str = HOST, **parameters: str) -> str:
        """The worker's, for a server of this name."""
        words = {"hostaddr": "127.0.0.1", "port": str(self.port)} | parameters
        query = "&".join(f"{key}={value}" for key, value in words.items())
        return f"postgresql://{WORKER}:{PASSWORD}@{host}/postgres?{query}"

    def set_tls(self, *, on: bool) -> None:
        """Have it speak TLS with those who come from now on, or not."""
        with psycopg.connect(self.owner_url, autocommit=True) as owner:
            owner.execute(f"alter system set ssl = {'on' if on else 'off'}".encode())
            owner.execute("select pg_reload_conf()")
        while self._speaks_tls() is not on:
            pass

    def _speaks_tls(self) -> bool:
        with psycopg.connect(self.owner_url) as fresh:
            return fresh.execute("show ssl").fetchone() == ("on",)


@contextmanager
def tls_postgres(authority: Authority) -> Iterator[TlsPostgres]:
    """Such a server, up."""
    if not POSTGRES_15.exists():
        pytest.skip(f"no Postgres 15 in {POSTGRES_15}")
    root = data_root()
    postgres = EmbeddedPostgres(root / "db", binaries=POSTGRES_15)  # that of the wheel knows no TLS
    try:
        with psycopg.connect(postgres.start(), autocommit=True) as owner:
            make_roles(postgres.dsn)
            owner.execute(f"alter role {WORKER} password '{PASSWORD}'".encode())
        postgres.stop()
        yield _serve(postgres.data_dir, authority)
    finally:
        postgres.stop(patience=1.0)
        shutil.rmtree(root)


def _serve(data_dir: Path, authority: Authority) -> TlsPostgres:
    user = ServerUser.for_data(data_dir)
    for name, path in zip(("server.crt", "server.key"), authority.certify(HOST), strict=True):
        shutil.copy(path, data_dir / name)
        shutil.chown(data_dir / name, user.uid, user.gid)
    (data_dir / "pg_hba.conf").write_text(HBA)
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": data_dir}
    options = shlex.join(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
    user = user.reaching(data_dir, POSTGRES_15)
    done = user.run(
        [POSTGRES_15 / "pg_ctl", "start", "-w", "-D", data_dir, "-l", data_dir / "log", "-o", options], timeout=60
    )
    running = Postmaster.read(data_dir)
    assert running is not None, done.stderr
    return TlsPostgres(port, f"postgresql://postgres@/postgres?host={data_dir}&port={port}")
