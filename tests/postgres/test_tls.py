"""A database elsewhere has to prove who it is, or there is no session: a real server with TLS, and ways to doubt it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from ampd_ray.errors import DatabaseRefused
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.route import Route
from tests.fakes.authority import Authority
from tests.fakes.tls_postgres import HOST, PASSWORD, TlsPostgres, tls_postgres


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def postgres(authority: Authority) -> Iterator[TlsPostgres]:
    with tls_postgres(authority) as running:
        running.set_tls(on=True)
        yield running


@pytest.fixture
def plain(postgres: TlsPostgres) -> Iterator[TlsPostgres]:
    """The same without TLS, as whoever is in between makes it look who wants to read along."""
    postgres.set_tls(on=False)
    yield postgres
    postgres.set_tls(on=True)


async def encrypted(url: str) -> bool:
    """Whether a session at ``url`` is encrypted."""
    async with Database(url).session() as conn:
        ((ssl,),) = await (await conn.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")).fetchall()
        return bool(ssl)


async def test_a_server_of_an_authority_that_is_named_is_taken(postgres: TlsPostgres, authority: Authority) -> None:
    assert await encrypted(postgres.url(sslrootcert=str(authority.file)))


async def test_so_is_one_of_those_that_the_machine_trusts(
    postgres: TlsPostgres, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert await encrypted(postgres.url())


async def test_a_server_that_is_not_proved_is_refused(
    postgres: TlsPostgres, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path)
    doubtful = {
        postgres.url(): "not of an authority that this machine trusts",
        postgres.url(sslrootcert=str(other.file)): "name the file of your authority as sslrootcert in the URL",
        postgres.url("other.test", sslrootcert=str(authority.file)): "its certificate is for another host",
        postgres.url(sslrootcert="/no/such/file"): "the file of trusted authorities cannot be read",
    }
    for url, reason in doubtful.items():
        with pytest.raises(DatabaseRefused, match=reason) as raised:
            await Database(url).open()
        assert PASSWORD not in str(raised.value)


async def test_a_server_without_tls_is_refused_unless_the_url_allows_it(
    plain: TlsPostgres, authority: Authority
) -> None:
    with pytest.raises(DatabaseRefused, match=r"it has no TLS: turn it on there, or.* say sslmode=disable in the URL"):
        await Database(plain.url(sslrootcert=str(authority.file))).open()
    assert not await encrypted(plain.url(sslmode="disable"))


async def test_what_the_url_or_the_environment_says_is_taken_as_it_is(
    postgres: TlsPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await encrypted(postgres.url("other.test", sslmode="require"))
    assert not await encrypted(postgres.url("other.test", sslmode="disable"))
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert not await encrypted(postgres.url("other.test"))


LOCAL = ["/tmp/socket", "@abstract", "localhost", "127.0.0.1", "127.1.2.3", "::1", "", "localhost,127.0.0.1"]
ELSEWHERE = [HOST, "10.0.0.5", "fd00::1", "localhost.example.com", "127.0.0.1.example.com", "localhost,10.0.0.5"]


@pytest.mark.parametrize("host", [*LOCAL, *ELSEWHERE])
def test_only_what_leaves_the_machine_needs_a_proof(host: str) -> None:
    made = conninfo_to_dict(Route(f"host='{host}' dbname=amp user=u", "test").conninfo)
    assert made.get("sslmode") == ("verify-full" if host in ELSEWHERE else None)
