"""What holds of every store, be it a directory, moto or SeaweedFS (spec/data.md 5.1, spec/commit.md 4)."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset
from pyarrow.fs import FileSelector, FileType

from ampd_ray.errors import AmpdError, ObjectExists, ObjectMissing, StoreError
from ampd_ray.store import objects, s3
from ampd_ray.store.files import Store, open_store

REVISION = "_/eth/blocks/0190"
TARGET = f"{REVISION}/000000000-00.parquet"
PART_BYTES = {"moto": 1 << 16, "seaweed": 5 << 20}  # S3's smallest is the latter


@pytest.fixture(params=["directory", "moto", "seaweed"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def location(kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where an empty store is."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if kind == "directory":
        return str(tmp_path)
    server = request.getfixturevalue(kind)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return str(server.url(f"{uuid.uuid4().hex}/"))


@pytest.fixture
def store(location: str) -> Store:
    return open_store(location)


@pytest.fixture(params=["small", "large"])
def data(request: pytest.FixtureRequest, kind: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The content of a file that is sent as a whole, or in two parts."""
    part_bytes = PART_BYTES.get(kind, 10)
    monkeypatch.setattr(objects, "LARGE_BYTES", part_bytes)
    monkeypatch.setattr(s3, "PART_BYTES", part_bytes)
    return os.urandom(10 if request.param == "small" else part_bytes + 10)


def staged(store: Store, data: bytes, name: str = "a", epoch: int = 1) -> Path:
    path = store.stage(7, epoch, name)
    path.write_bytes(data)
    return path


def test_a_published_file_is_there_with_its_facts(store: Store, data: bytes) -> None:
    source = staged(store, data)
    meta = store.publish(source, TARGET)
    assert (meta.size, meta.sha256, meta.version) == (len(data), hashlib.sha256(data).digest(), None)
    assert meta.e_tag
    assert meta == store.head(TARGET)
    assert store.read(TARGET) == data
    assert store.exists(TARGET)
    assert not source.exists()
    assert [(each.name, each.size) for each in store.objects(REVISION)] == [("000000000-00.parquet", len(data))]


def test_publishing_the_same_bytes_again_is_success(store: Store, data: bytes) -> None:
    first = store.publish(staged(store, data), TARGET)
    source = staged(store, data, "b")
    assert store.publish(source, TARGET) == first
    assert not source.exists()


@pytest.mark.parametrize("change", [lambda data: data + b"x", lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_other_bytes_are_never_replaced(store: Store, data: bytes, change: Callable[[bytes], bytes]) -> None:
    store.publish(staged(store, data), TARGET)
    source = staged(store, change(data), "b")
    with pytest.raises(ObjectExists, match="other content"):
        store.publish(source, TARGET)
    assert store.read(TARGET) == data
    assert source.exists()


def test_of_many_publishers_one_wins(store: Store, data: bytes, kind: str) -> None:
    if kind == "moto" and len(data) > PART_BYTES[kind]:
        pytest.skip("moto looks whether an object is there, and makes it later")
    results: list[bytes | AmpdError] = []
    start = threading.Barrier(4)

    def publish(number: int) -> None:
        mine = b"%d" % number + data
        source = staged(store, mine, str(number))
        start.wait()
        try:
            store.publish(source, TARGET)
            results.append(mine)
        except AmpdError as error:
            results.append(error)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [result for result in results if isinstance(result, bytes)]
    assert winners == [store.read(TARGET)]
    assert [type(result) for result in results if result not in winners] == [ObjectExists] * 3


def test_missing_objects(store: Store) -> None:
    for attempt in (store.read, store.head, store.open):
        with pytest.raises(ObjectMissing, match="does not exist"):
            attempt(TARGET)
    assert not store.exists(TARGET)
    store.delete(TARGET)
    store.discard(TARGET)
    assert list(store.objects("_/nothing/here")) == []


def test_a_small_object_is_written_and_gone_again(store: Store) -> None:
    store.write("sub/manifest", b"one")
    store.write("sub/manifest", b"two")
    store.write("sub/manifest", b"two", replace=False)
    with pytest.raises(ObjectExists, match="other content"):
        store.write("sub/manifest", b"one", replace=False)
    assert store.read("sub/manifest") == b"two"
    store.delete("sub/manifest")
    assert not store.exists("sub/manifest")
    store.write("sub/manifest", b"one", replace=False)
    store.discard("sub/manifest")
    assert not store.exists("sub/manifest")


def test_a_probe_leaves_no_object(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.probe()
    assert not caplog.records
    assert {each.name for each in store.objects("")} <= {".ampd-ray-staging"}  # SeaweedFS lists an empty directory
    assert list(store.objects(".ampd-ray-staging")) == []


def test_a_listing_names_files_with_size_and_age(store: Store) -> None:
    store.write("top", b"1")
    store.write(f"{REVISION}/a.parquet", b"12345")
    store.write(f"{REVISION}/b c%20d.parquet", b"")
    store.write(f"{REVISION}/deeper/c.parquet", b"")
    store.write(f"{REVISION}-other/d.parquet", b"")
    found = {each.name: each for each in store.objects(REVISION)}
    assert {name: each.size for name, each in found.items()} == {"a.parquet": 5, "b c%20d.parquet": 0}
    assert -5 < found["a.parquet"].age_secs < 60
    assert [each.name for each in store.objects("")] == ["top"]


def test_an_object_is_read_from_any_place(store: Store) -> None:
    store.write(TARGET, b"0123456789")
    with store.open(TARGET) as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"
        file.seek(2)
        assert file.read(3) == b"234"
        file.seek(1, os.SEEK_CUR)
        assert file.read(1) == b"6"
        file.seek(100)
        assert file.read(1) == b""
    store.write(TARGET, b"")
    with store.open(TARGET) as file:
        assert file.read() == b""


def test_a_url_leads_back_to_its_object_and_only_in_its_store(store: Store) -> None:
    url = store.url_of(TARGET)
    assert "://" in url
    assert store.path_of(url) == TARGET
    assert store.path_of(store.url_of("a b%20c/d")) == "a b%20c/d"
    root = url.removesuffix("/" + TARGET)
    for other in (root, root + "/", f"{root}/../x", f"{root}-other/{TARGET}", "s3://x/" + TARGET):
        assert store.path_of(other) is None


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", ""])
def test_a_path_stays_inside(store: Store, path: str) -> None:
    for attempt in (store.read, store.exists, store.open, store.delete, store.discard, store.url_of):
        with pytest.raises(StoreError, match="is not a path inside"):
            attempt(path)
    with pytest.raises(StoreError, match="is not a path inside"):
        store.write(path, b"")
    with pytest.raises(StoreError, match="is not a path inside"):
        store.publish(staged(store, b""), path)


def test_staged_epochs_are_listed_until_they_are_cleared(store: Store) -> None:
    assert store.staged_epochs(7) == []
    paths = [staged(store, b"x", f"{epoch}", epoch) for epoch in (2, 9, 10)]
    store.clear_staging(9, 10)
    assert store.staged_epochs(7)[-1] == 10
    store.clear_staging(7, 10)
    assert store.staged_epochs(7) == [10]
    assert [path.exists() for path in paths] == [False, False, True]


def test_arrow_reads_by_the_paths_of_the_store(store: Store) -> None:
    table = pa.table({"number": range(100_000)})
    pq.write_table(table, sink := io.BytesIO(), row_group_size=10_000)
    store.write(TARGET, sink.getvalue())
    files = store.arrow()
    assert pq.read_table(TARGET, filesystem=files) == table
    assert dataset([TARGET], filesystem=files).to_table() == table
    found = files.get_file_info([TARGET, REVISION, "_/nothing"])
    assert [each.type for each in found] == [FileType.File, FileType.Directory, FileType.NotFound]
    assert found[0].size == len(sink.getvalue())
    assert [each.path for each in files.get_file_info(FileSelector(REVISION))] == [TARGET]
    with pytest.raises(FileNotFoundError):
        files.open_input_file("_/nothing")
