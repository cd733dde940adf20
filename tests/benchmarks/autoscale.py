"""``make bench-autoscale``: one job on a cluster that starts with one Ray node, and where that goes, second by second.

The provider is far away, so that one extractor has as many requests under way as it may and every further one helps.
The cluster has Ray's own autoscaler with its fake multi-node provider; everything runs in namespaces of its own
(:mod:`tests.fakes.autoscaling`). With ``--per-minute`` the provider's budget is what limits once the first minute's
worth is gone, and no node is asked for. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.statuses import JobStatus
from tests.benchmarks.backfill import load_server
from tests.chaos.check import check
from tests.fakes.autoscaling import Autoscaled, apart, autoscaled
from tests.fakes.http import fetch
from tests.fakes.places import CHAIN_DATA, REPO
from tests.fakes.site import Site, add_provider, make_site, register
from tests.fakes.worker import Worker, environment

NETWORK: Final = "load"
LOOK_SECS: Final = 0.5
SHRUNK_WITHIN_SECS: Final = 60.0  # beyond both idle times
LOSSES: Final = ("an extractor was lost", "rows were lost", "a writer was lost")
_WANTED: Final = re.compile(r"extractors\b.*?\bwanted=(\d+)")


@dataclass(frozen=True)
class Moment:
    """What was there ``secs`` after the job was deployed."""

    secs: float
    wanted: int
    extractors: int
    nodes: int
    blocks: int
    blocks_per_s: float
    running: bool


@dataclass
class Watch:
    """Looks at a cluster, its worker and the job, and prints what has changed."""

    cluster: Autoscaled
    worker: Worker
    moments: list[Moment] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def look(self, job: Any) -> Moment:
        progress = job.progress()
        demanded = _WANTED.findall(self.worker.log())
        now = Moment(
            secs=round(time.monotonic() - self.began, 1),
            wanted=int(demanded[-1]) if demanded else 1,
            extractors=self.cluster.extractors(),
            nodes=self.cluster.nodes(),
            blocks=progress.done,
            blocks_per_s=round(progress.blocks_per_sec or 0.0),
            running=not progress.status.terminal,
        )
        before = self.moments[-1] if self.moments else None
        if before is None or self._counts(now) != self._counts(before) or now.secs >= before.secs + 5:
            print(
                "{secs:7.1f} s {wanted:7} {extractors:11} {nodes:6} {blocks:9,} {blocks_per_s:9,.0f}".format(
                    **asdict(now)
                ),
                flush=True,
            )
            self.moments.append(now)
        return now

    @staticmethod
    def _counts(moment: Moment) -> tuple[int, int, int, bool]:
        return moment.wanted, moment.extractors, moment.nodes, moment.running


@contextmanager
def site(directory: Path, url: str, given: argparse.Namespace) -> Iterator[Site]:
    """A database and a configuration whose provider is at ``url``."""
    postgres = EmbeddedPostgres(directory / "metadb")
    try:
        made = make_site(
            directory / "site", postgres.start(), url, network=NETWORK, writer={"bytes": 1 << 30},
            extractors=given.most + 1, extractor_idle_secs=given.idle_secs,
        )  # fmt: skip
        if given.per_minute:
            add_provider(made, NETWORK, url, rate_limit_per_minute=given.per_minute)
        yield made
    finally:
        postgres.stop(patience=1.0)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """One job from its start until its cluster is as small as before."""
    options = ["--latency-ms", str(given.latency_ms)]
    with (
        tempfile.TemporaryDirectory(prefix="ampd-") as root,
        load_server(given.mix, given.blocks, options) as url,
        site(Path(root), url, given) as made,
        autoscaled(Path(root), most=given.most, idle_secs=given.idle_secs) as cluster,
    ):
        worker = Worker(made, "north", ["--address", cluster.address], cluster.env)
        try:
            return story(given, made, cluster, worker.up(), url)
        finally:
            worker.end()


def story(given: argparse.Namespace, made: Site, cluster: Autoscaled, worker: Worker, url: str) -> dict[str, Any]:
    """Deploy, watch, check."""
    print("      time  wanted  extractors  nodes    blocks  blocks/s", flush=True)
    with made.client() as client:
        end = {"end_block": str(given.blocks - 1)}
        job = client.deploy(register(client, "far", NETWORK).model_copy(update=end), "north")
        watch = Watch(cluster, worker)
        while watch.look(job).running:
            time.sleep(LOOK_SECS)
        ended = time.monotonic()
        while (now := watch.look(job)).nodes > 1 or now.extractors > 1:
            if time.monotonic() - ended > 2 * given.idle_secs + SHRUNK_WITHIN_SECS:
                break
            time.sleep(LOOK_SECS)
        shrunk_secs = round(time.monotonic() - ended, 1)
        status = job.status()
    code, log = worker.drain(), worker.log()
    busiest = max(watch.moments, key=lambda moment: moment.extractors)
    return {
        "status": str(status),
        "exit_code": code,
        "blocks": given.blocks,
        "secs": round(ended - watch.began, 1),
        "most_wanted": max(moment.wanted for moment in watch.moments),
        "most_nodes": max(moment.nodes for moment in watch.moments),
        "most_extractors": busiest.extractors,
        "all_there_after_secs": busiest.secs,
        "nodes_at_last": now.nodes,
        "extractors_at_last": now.extractors,
        "shrunk_after_secs": shrunk_secs,
        "fetched": fetch(url)["blocks"],
        "lost": {loss: log.count(loss) for loss in LOSSES},
        "faults": check(made.url, "_/far", 0, given.blocks - 1) if status is JobStatus.COMPLETED else ["incomplete"],
        "moments": [asdict(moment) for moment in watch.moments],
    }


def measure(arguments: Sequence[str]) -> dict[str, Any]:
    """Run it apart; the record."""
    last = ""
    with subprocess.Popen(
        apart("tests.benchmarks.autoscale", ["--inside", *arguments]),
        cwd=REPO, env=environment({}), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            last = line
            if not line.startswith("{"):
                print(line, end="", flush=True)
    assert process.returncode == 0
    record: dict[str, Any] = json.loads(last)
    return record


def main() -> None:
    """Parse, run apart or inside, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=4, help="Ray nodes beside the head")
    parser.add_argument("--idle-secs", type=float, default=10.0, help="of extractors, and of Ray nodes")
    parser.add_argument("--blocks", type=int, default=30_000)
    parser.add_argument("--latency-ms", type=float, default=1000.0)
    parser.add_argument("--per-minute", type=int, help="the provider's rate limit")
    parser.add_argument("--mix", default="tiny")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not CHAIN_DATA.is_dir():
        sys.exit("the benchmark serves real blocks from ../shared/chain-data, which is not there")
    record = run(given) if given.inside else measure(sys.argv[1:])
    print(json.dumps(record))


if __name__ == "__main__":
    main()
