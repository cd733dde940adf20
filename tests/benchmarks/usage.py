"""What processes cost: CPU seconds, and memory with shared pages counted once, sampled from a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_SECS = 0.2


@dataclass
class Usage:
    """By process name: CPU seconds, and memory at the peak in bytes; ``idle_bytes`` is what was there before."""

    cpu_by_process: dict[str, float] = field(default_factory=dict)
    idle_bytes: int = 0
    by_process: dict[str, int] = field(default_factory=dict)

    @property
    def cpu_secs(self) -> float:
        """Of all processes."""
        return sum(self.cpu_by_process.values())

    def of(self, part: str) -> float:
        """CPU seconds of the processes that have ``part`` in their name."""
        return sum(secs for name, secs in self.cpu_by_process.items() if part in name)

    def add(self, name: str, cpu_secs: float, peak_bytes: int) -> None:
        """Count a process that was not among them."""
        self.cpu_by_process[name], self.by_process[name] = cpu_secs, peak_bytes

    @property
    def peak_bytes(self) -> int:
        """Of all processes at one moment."""
        return sum(self.by_process.values())


def of_environment(amp_dir: Path) -> list[psutil.Process]:
    """The processes of a solo environment: its driver with all that is below it, and its Postgres."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(amp_dir) in command and ("solo" in command or "postgres" in command):
            found |= {each.pid: each for each in below(process.pid)}
    return list(found.values())


def below(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; none once it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def named(of: list[psutil.Process], name: str) -> int:
    """How many have this name: a Ray actor between two calls has that of its class."""
    found = 0
    for process in of:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found += _name(process) == name
    return found


def cpu_secs(of: list[psutil.Process]) -> dict[str, float]:
    """User and system seconds so far, by process name."""
    found: dict[str, float] = {}
    for process in of:
        try:
            name, times = _name(process), process.cpu_times()
            found[name] = found.get(name, 0.0) + times.user + times.system
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def memory(of: list[psutil.Process]) -> dict[str, int]:
    """Proportional set size by process name: memory that processes share counts once."""
    sizes: dict[str, int] = {}
    for process in of:
        try:
            name = _name(process)
            sizes[name] = sizes.get(name, 0) + process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return sizes


def _name(process: psutil.Process) -> str:
    command = process.cmdline()
    return str(command[0].split("/")[-1] if command else process.name())[:40]


@contextmanager
def watched(amp_dir: Path) -> Iterator[Usage]:
    """What a solo environment uses while the block runs."""
    usage = Usage()
    usage.idle_bytes = sum(memory(of_environment(amp_dir)).values())
    with _sampled(["--environment", str(amp_dir)]) as peak, spent(amp_dir) as usage.cpu_by_process:
        yield usage
    usage.by_process = peak


@contextmanager
def spent(amp_dir: Path) -> Iterator[dict[str, float]]:
    """CPU seconds of a solo environment by process name while the block runs; sampling does not disturb it."""
    before = cpu_secs(of_environment(amp_dir))
    cpu: dict[str, float] = {}
    yield cpu
    cpu |= {name: secs - before.get(name, 0.0) for name, secs in cpu_secs(of_environment(amp_dir)).items()}


@dataclass(frozen=True)
class Finished:
    """What a command took, with all that it waited for, and what it wrote to standard output."""

    cpu_secs: float
    peak_bytes: int
    output: str


def finished(command: Sequence[str], log: Path) -> Finished:
    """Run a command, which must succeed; ``log`` gets its standard error."""
    with log.open("w+b") as errors, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=errors)
        with _sampled(["--tree", str(process.pid)]) as sizes:
            _, status, used = os.wait4(process.pid, 0)  # not of the sampler
            process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        output = said.read().decode(errors="replace")
    assert process.returncode == 0, f"{command}: {process.returncode}\n{(output + log.read_text())[-4000:]}"
    return Finished(used.ru_utime + used.ru_stime, sum(sizes.values()), output)


@contextmanager
def _sampled(of: list[str]) -> Iterator[dict[str, int]]:
    peak: dict[str, int] = {}
    command = [sys.executable, "-m", "tests.benchmarks.usage", *of]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sampler:
        try:
            yield peak
        finally:
            out, _ = sampler.communicate()
            peak |= json.loads(out)


def sample(processes: Callable[[], list[psutil.Process]]) -> dict[str, int]:
    """The largest sizes seen until standard input closes."""
    peak: dict[str, int] = {}
    while not select.select([sys.stdin], [], [], SAMPLE_SECS)[0]:
        sizes = memory(processes())
        if sum(sizes.values()) > sum(peak.values()):
            peak = sizes
    return peak


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--environment", type=Path)
    chosen.add_argument("--tree", type=int)
    given = parser.parse_args()
    print(json.dumps(sample(lambda: of_environment(given.environment) if given.environment else below(given.tree))))
