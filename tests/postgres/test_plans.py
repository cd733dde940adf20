"""A plan beside a database: what is covered is left out, and neither rows nor files change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.client import Client
from ampd_ray.client.plans import plan
from ampd_ray.client.session import Client as Session
from ampd_ray.config import create_directories, load_settings
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb import revisions
from tests.fakes.devnet import Devnet

TABLES = ("blocks", "transactions", "logs")


@pytest.fixture
def client(pg_url: str, tmp_path: Path) -> Iterator[Client]:
    settings = load_settings(None, {"AMP_CONFIG_METADATA_DB_URL": pg_url}, solo_dir=tmp_path)
    create_directories(settings)
    with Session(settings) as client:
        yield client


def everything(url: str, directory: Path) -> list[object]:
    """All rows and all files."""
    with psycopg.connect(url) as session:
        names = session.execute(
            "select schemaname, tablename from pg_tables where schemaname in ('public', 'ampd_ray') order by 1, 2"
        ).fetchall()
        rows = [session.execute(f"select count(*) from {schema}.{table}").fetchone() for schema, table in names]
    return [rows, sorted((str(path), path.stat().st_mtime_ns) for path in directory.rglob("*"))]


def cover(client: Client, url: str, start: int, covered: dict[str, Span]) -> None:
    """Blocks of a dataset, as if they had been committed."""
    manifest = evm_rpc_manifest("devnet", start)
    client.register_dataset(DatasetRef("_", "devnet"), manifest)
    with psycopg.connect(url) as session:
        for table, span in covered.items():
            found = client.run(revisions.open_revision(client.db, "_", "devnet", manifest.hash, table))
            row = session.execute(
                "insert into file_metadata (location_id, file_name, metadata, url) values (%s, 'a', '{}', 'u') "
                "returning id",
                [found.location_id],
            ).fetchone()
            assert row is not None
            session.execute(
                "insert into ampd_ray.segment "
                "(file_id, location_id, network, blocks, start_parent, end_hash, canonical) "
                "values (%s, %s, 'devnet', int8range(%s, %s, '[]'), '', '', true)",
                [row[0], found.location_id, span.start, span.end],
            )


def test_nothing_is_made_where_there_is_nothing(client: Client, pg_url: str, tmp_path: Path, devnet: Devnet) -> None:
    before = everything(pg_url, tmp_path)
    found = plan(rpc=devnet.url, blocks="0:150", client=client)
    assert (found.blocks, found.covered) == (150, 0)
    assert everything(pg_url, tmp_path) == before


def test_what_is_covered_is_left_out_table_by_table(
    client: Client, pg_url: str, tmp_path: Path, devnet: Devnet
) -> None:
    cover(client, pg_url, 0, {"blocks": Span(0, 99), "transactions": Span(0, 99), "logs": Span(0, 49)})
    before = everything(pg_url, tmp_path)
    found = plan(rpc=devnet.url, blocks="0:150", client=client)
    assert (found.blocks, found.covered) == (100, 50)
    assert found.rows["blocks"].value == 50
    assert dict(found.files) == {"blocks": 2, "transactions": 2, "logs": 3}  # one ends at what is final
    other = plan(rpc=devnet.url, blocks="1:150", client=client)  # another start is another dataset
    assert (other.blocks, other.covered) == (149, 0)
    assert everything(pg_url, tmp_path) == before


def test_a_range_that_is_all_there_takes_nothing(client: Client, pg_url: str, devnet: Devnet) -> None:
    cover(client, pg_url, 10, dict.fromkeys(TABLES, Span(10, 59)))
    found = plan(rpc=devnet.url, blocks="10:60", client=client)
    assert (found.blocks, found.covered, found.sampled, found.times) == (0, 50, 0, ())
    assert str(found).splitlines() == [
        f"plan of devnet (chain 1337) at {devnet.url.removeprefix('http://')}, blocks 10 to 59",
        "  blocks    0 to extract, 50 there already",
    ]


def test_a_database_that_is_away_does_not_keep_anybody_from_planning(
    tmp_path: Path, devnet: Devnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "amp.toml"
    for name in ("data", "providers", "manifests"):
        (tmp_path / name).mkdir()
    config.write_text('[metadata_db]\nurl = "postgresql://postgres@127.0.0.1:9/none"\n')
    monkeypatch.setenv("AMP_CONFIG", str(config))
    found = plan(rpc=devnet.url, blocks="0:10")
    assert found.blocks == 10
    assert any("what is covered already is not known" in note for note in found.notes)
