"""``make bench-cluster``: one job over four raylets, with more and more extractors, beside what would be ideal.

The provider is far away and the blocks are small, so that one machine has CPU enough for all of them: what is measured
is whether a job keeps every extractor of a cluster fed, and its writer keeps up. A job has as many blocks for each
extractor, however many there are, so that all take as long. Ideal is as many times the blocks a second of one
extractor. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.statuses import JobStatus
from tests.benchmarks.backfill import load_server
from tests.fakes.http import fetch
from tests.fakes.places import CHAIN_DATA
from tests.fakes.raylets import Raylets, raylets
from tests.fakes.site import Site, make_site, register, wait_until
from tests.fakes.worker import Worker, workers

NETWORK: Final = "load"
RAYLETS: Final = 4
WARM_BLOCKS: Final = 2_000
WITHIN_SECS: Final = 900.0


def run(number: int, given: argparse.Namespace, url: str, cluster: Raylets, root: Path) -> dict[str, Any]:
    """Blocks a second of one job with so many extractors, all of which are there."""
    with site(root / str(number), url, number) as made, joined(made, cluster) as worker, made.client() as client:
        blocks_per_s = []
        for name, blocks in (("warm", WARM_BLOCKS), ("far", number * given.blocks)):
            descriptor = register(client, name, NETWORK, start_block=WARM_BLOCKS * (name == "far"))
            last = WARM_BLOCKS * (name == "far") + blocks - 1
            began = time.monotonic()
            job = client.deploy(descriptor.model_copy(update={"end_block": str(last)}), "north")
            assert job.outcome(WITHIN_SECS).status is JobStatus.COMPLETED
            blocks_per_s.append(blocks / (time.monotonic() - began))
            wait_until(lambda: extractors(cluster) == number, what=f"{number} extractors")
        on = [len(cluster.actors(each).get("ExtractorActor", [])) for each in range(RAYLETS)]
        assert worker.drain() == 0
    return {"blocks_per_s": round(blocks_per_s[-1], 1), "extractors_on_raylets": on}


def extractors(cluster: Raylets) -> int:
    """How many run."""
    return sum(len(cluster.actors(number).get("ExtractorActor", [])) for number in range(RAYLETS))


@contextmanager
def site(root: Path, url: str, number: int) -> Iterator[Site]:
    """A database and a configuration of its own."""
    postgres = EmbeddedPostgres(root / "metadb")
    try:
        yield make_site(
            root / "site", postgres.start(), url, network=NETWORK, writer={"bytes": 1 << 30},
            extractors=number, min_extractors=number,
        )  # fmt: skip
    finally:
        postgres.stop(patience=1.0)


@contextmanager
def joined(made: Site, cluster: Raylets) -> Iterator[Worker]:
    """A worker on the cluster."""
    with workers(made, "north", arguments=["--address", cluster.address], env=cluster.env) as (worker,):
        yield worker


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All numbers of extractors on one cluster; the record."""
    found: dict[str, Any] = {}
    options = ["--latency-ms", str(given.latency_ms)]
    with (
        tempfile.TemporaryDirectory(prefix="ampd-") as root,
        load_server(given.mix, WARM_BLOCKS + max(given.extractors) * given.blocks, options) as url,
        raylets(Path(root)) as cluster,
    ):
        for _ in range(RAYLETS):
            cluster.add(cpus=1)
        for number in given.extractors:
            found[str(number)] = result = run(number, given, url, cluster, Path(root))
            one = found[str(given.extractors[0])]["blocks_per_s"] / given.extractors[0]
            result["of_ideal"] = round(result["blocks_per_s"] / (number * one), 3)
            print(
                f"{number} extractors {result['blocks_per_s']:8.0f} blocks/s  {result['of_ideal']:6.1%} of the ideal",
                flush=True,
            )
        found["requests"] = fetch(url)["requests"]
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extractors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--blocks", type=int, default=6_000, help="for each extractor")
    parser.add_argument("--latency-ms", type=float, default=1000.0)
    parser.add_argument("--mix", default="tiny")
    given = parser.parse_args()
    if not CHAIN_DATA.is_dir():
        sys.exit("the benchmark serves real blocks from ../shared/chain-data, which is not there")
    print(json.dumps(measure(given)))


if __name__ == "__main__":
    main()
