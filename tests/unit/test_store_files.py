"""The local store: written once, complete or not at all (spec/data.md 5.1)."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.errors import StoreError, StoreFull
from ampd_ray.store.files import LocalStore, ObjectMeta, open_store

REVISION = "_/eth/blocks/0190"
TARGET = f"{REVISION}/000000000-00.parquet"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "my data"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root)


def staged(store: LocalStore, data: bytes, name: str = "a", epoch: int = 1) -> Path:
    path = store.stage(7, epoch, name)
    path.write_bytes(data)
    return path


def failing(code: int) -> Any:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_published_file_is_there_with_its_facts(store: LocalStore, root: Path) -> None:
    source = staged(store, b"rows")
    assert source.parent == root / ".ampd-ray-staging/7/1"
    meta = store.publish(source, TARGET)
    status = (root / TARGET).stat()
    tag = f"{status.st_ino:x}-{status.st_mtime_ns // 1000:x}-4"
    assert meta == ObjectMeta(4, tag, None, hashlib.sha256(b"rows").digest())
    assert meta == store.head(TARGET)
    assert store.read(TARGET) == b"rows"
    assert store.exists(TARGET)
    assert not source.exists()
    assert [path.name for path in (root / REVISION).iterdir()] == ["000000000-00.parquet"]


def test_a_file_reaches_the_disk_before_its_name_appears(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    link, fsync = os.link, os.fsync

    def note_link(source: Path, target: Path) -> None:
        events.append("name")
        link(source, target)

    def note_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        events.append(f"sync {path.name}")
        fsync(descriptor)

    source = staged(store, b"rows")
    monkeypatch.setattr(os, "link", note_link)
    monkeypatch.setattr(os, "fsync", note_fsync)
    store.publish(source, TARGET)
    # the file, then each new directory in its parent, then the name, then the directory that holds it
    assert events == ["sync a", "sync my data", "sync _", "sync eth", "sync blocks", "name", "sync 0190"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_apart(store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    source = staged(store, b"rows")
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(StoreFull, match="free some space"):
        store.publish(source, TARGET)
    assert not store.exists(TARGET)
    with pytest.raises(StoreFull):
        store.write("manifest", b"x")
    assert not store.exists("manifest")


def test_a_failure_names_path_and_reason(store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = staged(store, b"rows")
    monkeypatch.setattr(os, "link", failing(errno.EROFS))
    with pytest.raises(StoreError, match="Read-only file system") as caught:
        store.publish(source, TARGET)
    assert str(root / TARGET) in caught.value.message
    monkeypatch.setattr(os, "link", failing(errno.EACCES))
    with pytest.raises(StoreError, match="check the directory's owner and permissions"):
        store.publish(source, TARGET)


def test_a_missing_root_is_never_created(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "gone")
    for attempt in (store.probe, lambda: store.stage(7, 1, "a"), lambda: store.write("x", b""), store.free_bytes):
        with pytest.raises(StoreError, match="the directory is missing"):
            attempt()
    assert not (tmp_path / "gone").exists()


def test_write_replaces_at_once_and_leaves_nothing_else(store: LocalStore, root: Path) -> None:
    store.write("sub/manifest", b"one")
    store.write("sub/manifest", b"two")
    assert store.read("sub/manifest") == b"two"
    assert [path.name for path in (root / "sub").iterdir()] == ["manifest"]
    store.delete("sub/manifest")
    assert not store.exists("sub/manifest")


def test_probe_leaves_nothing_behind(store: LocalStore, root: Path) -> None:
    store.probe()
    assert [path.relative_to(root) for path in root.rglob("*")] == [Path(".ampd-ray-staging")]


def test_only_superseded_epochs_are_cleared(store: LocalStore) -> None:
    paths = {epoch: staged(store, b"x", epoch=epoch) for epoch in (1, 2, 10)}
    other = store.stage(8, 1, "a")
    other.write_bytes(b"x")
    store.clear_staging(7, below_epoch=10)
    store.clear_staging(9, below_epoch=10)
    assert {epoch: path.exists() for epoch, path in paths.items()} == {1: False, 2: False, 10: True}
    assert other.exists()


def test_urls_and_room(store: LocalStore, root: Path) -> None:
    assert store.url_of(REVISION) == f"file://{root}/{REVISION}".replace(" ", "%20")
    assert (store.free_bytes() or 0) > 0


def test_a_store_is_opened_by_path_or_url(tmp_path: Path) -> None:
    for location in (str(tmp_path), f"file://{tmp_path}"):
        assert repr(open_store(location)) == f"LocalStore({str(tmp_path)!r})"


# -- looking around ---------------------------------------------------------------------------------------------------


def test_a_url_leads_back_to_its_object_and_only_in_its_store(store: LocalStore, root: Path, tmp_path: Path) -> None:
    url = store.url_of(TARGET)
    assert "%20" in url
    assert store.path_of(url) == TARGET
    assert store.path_of(str(root / TARGET)) == TARGET
    assert store.path_of((tmp_path / "other" / TARGET).as_uri()) is None
    assert store.path_of(f"{root.as_uri()}/../other/{TARGET}") is None
    assert store.path_of(root.as_uri()) is None
    assert store.path_of("s3://bucket/" + TARGET) is None


def test_a_listing_names_files_with_size_and_age(store: LocalStore, root: Path) -> None:
    store.write(f"{REVISION}/a.parquet", b"12345")
    store.write(f"{REVISION}/b.parquet", b"")
    (root / REVISION / "deeper").mkdir()
    (root / REVISION / "link").symlink_to("a.parquet")
    (root / REVISION / "dangling").symlink_to("gone")
    os.utime(root / REVISION / "b.parquet", (1_000_000_000, 1_000_000_000))
    found = {each.name: each for each in store.objects(REVISION)}
    assert set(found) == {"a.parquet", "b.parquet", "link"}
    assert (found["a.parquet"].size, found["b.parquet"].size) == (5, 0)
    assert -1 < found["a.parquet"].age_secs < 60
    assert found["b.parquet"].age_secs > 500_000_000
    assert list(store.objects("_/nothing/here")) == []


def test_staged_epochs_are_listed_until_they_are_cleared(store: LocalStore, root: Path) -> None:
    assert store.staged_epochs(7) == []
    for epoch in (10, 2, 9):
        staged(store, b"x", f"{epoch}", epoch)
    (root / ".ampd-ray-staging/7/stray").mkdir()
    assert store.staged_epochs(7) == [2, 9, 10]
    store.clear_staging(7, 10)
    assert store.staged_epochs(7) == [10]
