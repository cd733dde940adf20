"""A store in memory, and table files without Parquet: JSON that says which blocks, of which branch, it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow.fs import FileSystem

from ampd_ray.errors import ObjectExists, ObjectMissing, StoreError
from ampd_ray.materialize.encode import ClosedFile
from ampd_ray.materialize.types import WriterOptions
from ampd_ray.store.disk import Listed, ObjectMeta
from tests.simulator.faults import Faults
from tests.simulator.kernel import Kernel, Vanished
from tests.simulator.loop import PROCESS

URL = "mem://data/"


class MemoryStore:
    """The port ``Store``. ``on_delete`` hears of each object before it goes."""

    def __init__(self, kernel: Kernel, faults: Faults):
        self.objects_by_path: dict[str, bytes] = {}
        self.staged: dict[Path, bytes] = {}
        self.on_delete: Callable[[str], None] = lambda _: None
        self.on_publish: Callable[[int, int], None] = lambda _, __: None
        self._kernel = kernel
        self._faults = faults

    def _call(self, what: str) -> None:
        """Each call may fail, or be the last thing that its process does."""
        process = PROCESS.get()
        fault = self._faults.of_store()
        if process is not None and (process.gone or fault == "death"):
            self._faults.counts["kills"] += not process.gone
            self._kernel.note(f"dies at {what}")
            process.kill()
            raise Vanished
        self._kernel.note(what)
        if fault == "error":
            raise StoreError(f"{what}: no space left on the simulated device")

    def url_of(self, path: str) -> str:
        return URL + path

    def path_of(self, url: str) -> str | None:
        return url.removeprefix(URL) if url.startswith(URL) else None

    def exists(self, path: str) -> bool:
        return path in self.objects_by_path

    def head(self, path: str) -> ObjectMeta:
        if path not in self.objects_by_path:
            raise ObjectMissing(f"{path} does not exist", path=path)
        return _meta(self.objects_by_path[path])

    def delete(self, path: str) -> None:
        self._call(f"delete {_short(path)}")
        self.on_delete(path)
        self.objects_by_path.pop(path, None)

    def discard(self, path: str) -> None:
        self.delete(path)

    def stage(self, location_id: int, epoch: int, name: str) -> Path:
        return Path(f"/staging/{location_id}/{epoch}/{name}")

    def publish(self, staged: Path, path: str) -> ObjectMeta:
        self._call(f"publish {_short(path)}")
        content = self.staged[staged]
        there = self.objects_by_path.setdefault(path, content)
        if there != content:
            raise ObjectExists(f"{path} is there already with other content", path=path)
        self.on_publish(int(staged.parts[2]), int(staged.parts[3]))
        del self.staged[staged]
        return _meta(content)

    def clear_staging(self, location_id: int, below_epoch: int) -> None:
        for staged in [path for path in self.staged if int(path.parts[2]) == location_id]:
            if int(staged.parts[3]) < below_epoch:
                del self.staged[staged]

    def staged_epochs(self, location_id: int) -> list[int]:
        return sorted({int(path.parts[3]) for path in self.staged if int(path.parts[2]) == location_id})

    def objects(self, directory: str) -> Iterator[Listed]:
        for path, content in self.objects_by_path.items():
            if path.rpartition("/")[0] == directory:
                yield Listed(path.rpartition("/")[2], len(content), 0.0)

    def read(self, path: str) -> bytes:
        raise NotImplementedError

    def write(self, path: str, data: bytes, *, replace: bool = True) -> None:
        raise NotImplementedError

    def open(self, path: str) -> BinaryIO:
        raise NotImplementedError

    def arrow(self) -> FileSystem:
        raise NotImplementedError

    def probe(self) -> None:
        raise NotImplementedError

    def free_bytes(self) -> int | None:
        return None

    def table_file(self, path: Path, table: str, options: WriterOptions) -> PlainFile:
        """What stands in for ``encode.TableFile``."""
        return PlainFile(self, path, table)


class PlainFile:
    """An open table file."""

    def __init__(self, store: MemoryStore, path: Path, table: str):
        self._store = store
        self._path = path
        self._table = table
        self._blocks: list[list[Any]] = []

    def write(self, rows: pa.Table) -> None:
        numbers, hashes = rows.column("_block_num").to_pylist(), rows.column("hash").to_pylist()
        self._blocks += [[number, hash_.hex()] for number, hash_ in zip(numbers, hashes, strict=True)]

    def close(self, metadata: Mapping[str, str]) -> ClosedFile:
        about = json.loads(metadata["nozzle_metadata"])
        content = json.dumps({"table": self._table, "about": about, "blocks": self._blocks}).encode()
        self._store.staged[self._path] = content
        digest = hashlib.sha256(content).digest()
        return ClosedFile(self._table, self._path, len(self._blocks), b"footer", len(content), digest)

    def discard(self) -> None:
        self._store.staged.pop(self._path, None)


def _meta(content: bytes) -> ObjectMeta:
    return ObjectMeta(len(content), None, None, hashlib.sha256(content).digest())


def _short(path: str) -> str:
    _, _, table, _, name = path.split("/")
    return f"{table}/{name}"
