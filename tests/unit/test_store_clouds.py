"""GCS and Azure: clients from the usual variables, and what differs from S3.

GCS speaks much of S3's language, so that moto can play it; a new object is asked for in a word of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from obstore.store import MemoryStore

from ampd_ray.errors import ConfigError, ObjectExists, StoreError
from ampd_ray.store import buckets, objects
from ampd_ray.store.buckets import Bucket, InChunks, open_bucket
from ampd_ray.store.files import Store, open_store
from ampd_ray.store.objects import ObjectStore
from ampd_ray.store.refusals import AZURE
from tests.fakes.aside import aside
from tests.fakes.faulty_s3 import FaultyS3
from tests.fakes.object_stores import BUCKET, S3Server

TARGET = "_/eth/blocks/0190/000000000-00.parquet"
CHUNK_BYTES = 1 << 16
KEY = "aHVudGVyMg=="


class GcsOnS3(FaultyS3):
    """Says to S3 what is said to GCS."""

    async def _passed_on(self, request: web.Request) -> web.Response:
        headers = request.headers.copy()
        if headers.pop("x-goog-if-generation-match", None) == "0":
            headers["If-None-Match"] = "*"
        return await super()._passed_on(request.clone(headers=headers))


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(objects, "LARGE_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(buckets, "CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def gcs(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with aside(lambda: GcsOnS3(moto.endpoint)) as server:
        monkeypatch.setenv("GOOGLE_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "a-token")
        yield open_store(f"gs://{BUCKET}/{uuid.uuid4().hex}/")


@pytest.fixture
def azure() -> Store:
    """No emulator is small enough for here: all but the client."""
    client = MemoryStore()
    return ObjectStore("az://blocks/data/", Bucket(AZURE, client, InChunks(client)))  # type: ignore[arg-type]


@pytest.fixture(params=["gcs", "azure"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def staged(store: Store, data: bytes, name: str = "a") -> Path:
    path = store.stage(7, 1, name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [10, CHUNK_BYTES * 2 + 10])
def test_a_file_is_published_once(store: Store, size: int) -> None:
    data = os.urandom(size)
    meta = store.publish(staged(store, data), TARGET)
    assert (meta.size, meta) == (size, store.head(TARGET))
    assert store.publish(staged(store, data), TARGET) == meta
    with pytest.raises(ObjectExists):
        store.publish(staged(store, data[::-1]), TARGET)
    assert store.read(TARGET) == data
    assert [each.size for each in store.objects(TARGET.rpartition("/")[0])] == [size]
    store.discard(TARGET)
    assert not store.exists(TARGET)
    store.delete(TARGET)


def test_a_probe_works_and_warns_of_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.probe()
    assert not caplog.records


def test_a_missing_bucket_is_told(gcs: Store) -> None:
    with pytest.raises(StoreError, match="there is no bucket no-such-bucket"):
        open_store("gs://no-such-bucket/x/").probe()


@pytest.mark.parametrize("scheme", ["az", "adl", "azure", "abfs", "abfss"])
def test_azure_takes_its_account_from_variables(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    url = f"{scheme}://container/some/data/"
    with pytest.raises(ConfigError, match=r"Account must be specified\. Azure takes .* AZURE_STORAGE_ACCOUNT_NAME"):
        open_bucket(url)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    store = open_store(url)
    assert store.url_of("a/b c") == f"{url}a/b%20c"
    assert store.path_of(f"{url}a/b%20c") == "a/b c"
    assert KEY not in repr(store)


def test_an_account_may_stand_in_the_url() -> None:
    bucket = open_bucket("abfss://container@account.dfs.core.windows.net/some/data/")
    assert bucket.client.prefix == "some/data"


def test_a_wrong_key_file_is_told_without_its_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text('{"private_key": "hunter2"}')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ConfigError, match="GCS takes its settings from GOOGLE_APPLICATION_CREDENTIALS") as caught:
        open_bucket("gs://bucket/x/")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [("http://127.0.0.1:9000", "true"), ("https://minio.example.org", "false"), (None, "false")],
)
def test_http_is_spoken_only_to_an_endpoint_that_says_so(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None, allowed: str
) -> None:
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    options = open_bucket("s3://bucket/x/").client.client_options
    assert options is not None
    assert options["allow_http"] == allowed  # type: ignore[comparison-overlap]
