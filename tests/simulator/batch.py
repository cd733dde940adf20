"""Many seeds, in several processes that share one private Postgres."""

from __future__ import annotations

import gc
import hashlib
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from os import getpid
from pathlib import Path

import psycopg

from ampd_ray.metadb.embedded import EmbeddedPostgres
from tests.servers import make_roles
from tests.simulator.mutants import MUTANTS
from tests.simulator.run import Result, run
from tests.simulator.site import Site

CHUNK = 10  # seeds that a process takes at a time
SETTINGS = {
    "fsync": "off",  # these databases need not outlive a crash
    "full_page_writes": "off",
    "autovacuum": "off",  # its locks would come by chance
    "synchronous_commit": "off",
    "deadlock_timeout": "1h",  # the simulator sees who waits for whom
    "plan_cache_mode": "force_generic_plan",  # the same few statements on a few rows
}


@contextmanager
def server() -> Iterator[str]:
    """The URL of a private Postgres."""
    root = Path(tempfile.mkdtemp(prefix="ampd-simulator-"))
    postgres = EmbeddedPostgres(root / "metadb")
    try:
        url = postgres.start()
        with psycopg.connect(url, autocommit=True) as conn:
            for name, value in SETTINGS.items():
                conn.execute(f"alter system set {name} = '{value}'".encode())
            conn.execute("select pg_reload_conf()")
        make_roles(url)
        yield url
    finally:
        postgres.stop(patience=1.0)
        shutil.rmtree(root)


@dataclass
class Totals:
    """What came of many seeds. ``digest`` identifies all that happened, in whatever order it was done."""

    seeds: int = 0
    steps: int = 0
    violations: list[Result] = field(default_factory=list)
    traced: list[Result] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    digests: dict[int, str] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.steps += result.steps
        self.counts += result.counts
        self.digests[result.seed] = result.digest
        if result.violation is not None:
            self.violations.append(result)
        if result.trace:
            self.traced.append(result)

    def shown(self, kinds: Collection[str] | None) -> int:
        """How many violations there are of these kinds; None: of any."""
        found = (result.violation[0] for result in self.violations if result.violation is not None)
        return sum(kinds is None or kind in kinds for kind in found)

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(sorted(self.digests.items())).encode()).hexdigest()[:16]


class Batch:
    """Runs seeds in ``processes`` of its own on a server; use as a context."""

    def __init__(self, url: str, processes: int = 2):
        self._processes = processes
        self._pool = ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=_open_sites, initargs=(url,)
        )

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(
        self,
        seeds: Iterable[int],
        *,
        mutant: str | None = None,
        violations_max: int = 1,
        keep_trace: bool = False,
        on_progress: Callable[[Totals], None] = lambda _: None,
    ) -> Totals:
        """Run ``seeds``, in order but for the last few, until ``violations_max`` of them violate something.

        Of a mutant only what its missing guard shows counts: that jobs do not come to their end may come first.
        """
        totals, shows = Totals(), MUTANTS[mutant].shows if mutant else None
        wanted = list(seeds)
        chunks = [wanted[at : at + CHUNK] for at in range(0, len(wanted), CHUNK)]
        running: list[Future[list[Result]]] = []
        while chunks or running:
            while chunks and len(running) < 2 * self._processes:
                running.append(self._pool.submit(_run_seeds, chunks.pop(0), mutant, keep_trace))
            for result in running.pop(0).result():
                totals.add(result)
            on_progress(totals)
            if totals.shown(shows) >= violations_max:
                break
        for future in running:
            future.cancel()
        return totals


_sites: list[Site] = []


def _open_sites(url: str) -> None:
    """One database that refuses overlaps by itself, and one where the commits have to."""
    logging.getLogger("ampd_ray").setLevel(logging.ERROR)
    gc.freeze()  # what is imported is not looked through after each run
    _sites[:] = [Site(url, f"sim_{getpid()}_{exclusion}".lower(), exclusion=exclusion) for exclusion in (True, False)]


def _run_seeds(seeds: Collection[int], mutant: str | None, keep_trace: bool) -> list[Result]:
    chosen = MUTANTS[mutant] if mutant else None
    results = []
    with chosen.installed() if chosen else nullcontext():
        for seed in seeds:
            exclusion = chosen.exclusion if chosen and chosen.exclusion is not None else seed % 2 == 0
            only = chosen.shows if chosen else None
            results.append(run(seed, _sites[0 if exclusion else 1], keep_trace=keep_trace, only=only))
    return results
