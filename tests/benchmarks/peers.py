"""cryo and ethereum-etl from PyPI, each in a virtual environment of its own, over the same node as we."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.usage import finished
from tests.fakes.places import REPO

PLACE: Final = REPO / ".cache" / "peers"
CRYO: Final = """
import sys, cryo
cryo.freeze(
    ["blocks", "transactions", "logs"], blocks=[sys.argv[2]], rpc=sys.argv[1], output_dir=sys.argv[3],
    include_columns=["all"], chunk_size=200, hex=False, max_concurrent_requests=64,
)
"""
# Its oldest dependency wants a function that Python 3.11 took away.
ETL: Final = """
import inspect, sys
inspect.getargspec = inspect.getfullargspec
from ethereumetl.cli import cli
cli()
"""


@dataclass(frozen=True)
class Run:
    """What one run of a peer took; ``blocks`` of what was asked for."""

    blocks: int
    wall_secs: float
    cpu_secs: float
    peak_bytes: int


@dataclass(frozen=True)
class Peer:
    """A peer: what pip installs, and how many of our blocks it is given, as a share."""

    name: str
    requirement: str
    share: float
    commands: Callable[[Path, str, int, Path], Sequence[Sequence[str]]]  # python, node, blocks, directory

    def install(self) -> Path:
        """Make its environment if it is not there; the environment's Python. Raises CalledProcessError."""
        python = PLACE / self.name / "bin" / "python"
        done = PLACE / self.name / ".installed"
        if not done.exists():
            print(f"installing {self.requirement} ...", flush=True)
            subprocess.run([sys.executable, "-m", "venv", str(PLACE / self.name)], check=True)
            quiet = ["--quiet", "--disable-pip-version-check"]
            subprocess.run([str(python), "-m", "pip", "install", *quiet, self.requirement], check=True)
            done.touch()
        return python

    def run(self, url: str, blocks: int) -> Run:
        """Extract blocks, transactions and logs of the first ``blocks`` blocks, or its share of them, into files."""
        python, count = self.install(), max(1, round(blocks * self.share))
        cpu, peak, started = 0.0, 0, time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ampd-bench-") as place:
            for command in self.commands(python, url, count, Path(place)):
                done = finished(command, Path(place) / "log")
                cpu, peak = cpu + done.cpu_secs, max(peak, done.peak_bytes)
            return Run(count, time.monotonic() - started, cpu, peak)


def _cryo(python: Path, url: str, blocks: int, place: Path) -> list[list[str]]:
    return [[str(python), "-c", CRYO, url, f"0:{blocks}", str(place)]]


def _ethereum_etl(python: Path, url: str, blocks: int, place: Path) -> list[list[str]]:
    etl = [str(python), "-c", ETL]
    files = {name: str(place / f"{name}.csv") for name in ("blocks", "transactions", "receipts", "logs")}
    hashes, workers = str(place / "hashes.txt"), ["-w", str(os.cpu_count() or 1)]
    return [
        [*etl, "export_blocks_and_transactions", "-s", "0", "-e", str(blocks - 1), "-p", url, *workers,
         "--blocks-output", files["blocks"], "--transactions-output", files["transactions"]],
        [*etl, "extract_csv_column", "-i", files["transactions"], "-c", "hash", "-o", hashes],
        [*etl, "export_receipts_and_logs", "-t", hashes, "-p", url, *workers,
         "--receipts-output", files["receipts"], "--logs-output", files["logs"]],
    ]  # fmt: skip


PEERS: Final = (
    Peer("cryo", "cryo==0.3.2", 1.0, _cryo),
    Peer("ethereum_etl", "ethereum-etl==2.4.2", 0.1, _ethereum_etl),
)
