"""``python -m tests.benchmarks.objects --puts 10000 --share 0.2``: each file once, whatever becomes of requests?

Files are published to an S3 server behind a proxy that spoils a share of the requests that write: answers are lost, the
server is too busy, bodies are cut. Every tenth file is published by two at once, as after a double delivery; every
fiftieth name is then tried with another content, which must be refused. What counts is what somebody else finds in the
bucket afterwards. The last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from unittest import mock

from ampd_ray import log
from ampd_ray.errors import ObjectExists, StoreError
from ampd_ray.store.files import Store, open_store
from tests.fakes.bucket import Outside
from tests.fakes.faulty_s3 import Fault, FaultyS3, at_random, faulty_s3
from tests.fakes.object_stores import S3Server, environment, moto, seaweed

SERVERS: dict[str, Callable[[], AbstractContextManager[S3Server]]] = {"moto": moto, "seaweed": seaweed}
FAULTS = (Fault.LOST, Fault.SLOW_DOWN, Fault.CUT, Fault.INTERNAL)
SMALL = (4 << 10, 128 << 10)  # bytes
LARGE = 20 << 20  # more than one request takes
TWICE_EVERY, RIVAL_EVERY = 10, 50
AT_ONCE = 8
TRIES = 10  # of a file whose store is in trouble, as a job has them


@dataclass(frozen=True)
class File:
    """One to publish; its content follows from its number."""

    number: int
    large: bool

    @property
    def path(self) -> str:
        return f"_/bench/logs/{self.number % 16:02}/{self.number:09}.parquet"

    def content(self) -> bytes:
        dice = Random(self.number)
        return dice.randbytes(LARGE + self.number if self.large else dice.randint(*SMALL))


@dataclass
class Tally:
    """What happened; several threads count."""

    bytes: int = 0
    again: int = 0
    rivals: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, *, nbytes: int = 0, again: int = 0, rival: str | None = None) -> None:
        with self.lock:
            self.bytes += nbytes
            self.again += again
            self.rivals.update(() if rival is None else [rival])


class Publisher:
    """Publishes files as writers do."""

    def __init__(self, store: Store, tally: Tally) -> None:
        self._store = store
        self._tally = tally

    def publish(self, file: File) -> None:
        """Put it in place; by two at once, and against a rival, where it is its turn."""
        data = file.content()
        if file.number % TWICE_EVERY == 0:
            second = threading.Thread(target=self._put, args=(file, data))
            second.start()
            self._put(file, data)
            second.join()
        else:
            self._put(file, data)
        self._tally.count(nbytes=len(data))
        if file.number % RIVAL_EVERY == 0:
            self._rival(file, data[::-1])

    def _put(self, file: File, data: bytes) -> None:
        staged = self._store.stage(1, 1, f"{threading.get_ident()}-{file.number}.parquet")
        staged.write_bytes(data)
        for left in reversed(range(TRIES)):
            try:
                meta = self._store.publish(staged, file.path)
            except StoreError:
                if not left:
                    raise
                self._tally.count(again=1)
            else:
                assert (meta.size, meta.sha256) == (len(data), hashlib.sha256(data).digest())
                return

    def _rival(self, file: File, data: bytes) -> None:
        try:
            self._put(file, data)
        except ObjectExists:
            self._tally.count(rival="refused")
        else:
            self._tally.count(rival="replaced it")


def measure(
    puts: int, share: float, *, server: str = "seaweed", large_every: int = 500, seed: int = 1
) -> dict[str, Any]:
    """The figures of so many files with faults in a ``share`` of the requests that write."""
    files = [File(number, number % large_every == large_every - 1) for number in range(puts)]
    tally = Tally()
    with SERVERS[server]() as running, faulty_s3(running.endpoint, at_random(share, seed, FAULTS)) as proxy:
        with _opened(running, proxy) as store, ThreadPoolExecutor(AT_ONCE) as pool:
            started = time.monotonic()
            for done, _ in enumerate(pool.map(Publisher(store, tally).publish, files), start=1):
                if done % 1000 == 0:
                    print(f"{done:,} files, {time.monotonic() - started:.0f} s", file=sys.stderr)
            seconds = time.monotonic() - started
        found = looked_at(Outside(running), files)
    return {
        "server": server,
        "files": puts,
        "large": sum(file.large for file in files),
        "share": share,
        "requests": sum(proxy.requests[method] for method in ("PUT", "POST", "DELETE")),
        "faults": {fault.name.lower(): proxy.fired[fault] for fault in FAULTS if proxy.fired[fault]},
        "published_again": tally.again,
        "rivals": dict(tally.rivals),
        "seconds": round(seconds, 1),
        "mb_per_s": round(tally.bytes / seconds / 1e6, 1),
        **found,
    }


@contextmanager
def _opened(server: S3Server, proxy: FaultyS3) -> Iterator[Store]:
    """The store behind the proxy, with its unfinished files in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        variables = {**environment(proxy.url), "TMPDIR": scratch}
        with mock.patch.dict(os.environ, variables), mock.patch.object(tempfile, "tempdir", scratch):
            yield open_store(server.url("bench/"))


def looked_at(outside: Outside, files: list[File]) -> dict[str, int]:
    """What is in the bucket, held against what should be."""
    there = outside.objects("bench/")
    wanted = {f"bench/{file.path}": file for file in files}

    def differs(key: str) -> bool:
        return outside.sha256(key) != hashlib.sha256(wanted[key].content()).digest()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {
            "missing": len(wanted.keys() - there.keys()),
            "duplicates": len(there.keys() - wanted.keys()),
            "wrong": sum(pool.map(differs, wanted.keys() & there.keys())),
            "leaked_uploads": len(outside.uploads()),
        }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--puts", type=int, default=10_000, help="files (default 10000)")
    parser.add_argument("--share", type=float, default=0.2, help="of requests that are spoilt (default 0.2)")
    parser.add_argument("--large-every", type=int, default=500, help="files, one of 20 MB in parts (default 500)")
    parser.add_argument("--server", choices=SERVERS, default="seaweed", help="default seaweed")
    parser.add_argument("--seed", type=int, default=1, help="of the faults (default 1)")
    log.setup("error")
    asked = parser.parse_args()
    options = {"server": asked.server, "large_every": asked.large_every, "seed": asked.seed}
    record = measure(asked.puts, asked.share, **options)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
