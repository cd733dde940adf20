"""``ampd worker`` as a process of its own, its log, and the tree of processes below it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.fakes.site import Site, wait_until

AMPD = Path(sys.executable).with_name("ampd")
UP = "node is up"
UP_SECS = 90.0  # Ray's start on a busy machine
DRAIN_SECS = 40.0
END_SECS = 10.0


class Worker:
    """A running ``ampd worker``. The log is complete once the process has ended."""

    def __init__(
        self,
        site: Site,
        node_id: str,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        *,
        ampd: Sequence[str] = (str(AMPD),),
        cwd: Path | None = None,
    ):
        self.node_id = node_id
        number = len(list(site.directory.glob(f"{node_id}.*.log")))
        self._log = site.directory / f"{node_id}.{number}.log"
        named = [] if "--every-node" in arguments else ["--node-id", node_id]
        command = [*ampd, "worker", "--config", str(site.config), *named, *arguments]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=cwd, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(env),
                start_new_session=True,
            )  # fmt: skip

    def log(self) -> str:
        """What it has said so far, its actors included."""
        return self._log.read_text(errors="replace")

    def up(self) -> Worker:
        """Wait until it takes jobs."""
        wait_until(lambda: UP in self.log() or self.process.poll() is not None, UP_SECS, f"{self.node_id} up")
        assert self.process.poll() is None, self.log()
        return self

    def tree(self) -> list[psutil.Process]:
        """All processes below it: its Ray, its actors."""
        below: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return below

    def kill(self) -> list[psutil.Process]:
        """End the driver with SIGKILL, and nothing else; the processes that were below it."""
        tree = self.tree()
        self.process.kill()
        self.process.wait()
        return tree

    def drain(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DRAIN_SECS)

    def end(self) -> None:
        """End it and all below it, whatever state it is in."""
        if self.process.poll() is None:
            end_all(self.kill())


def of_ray_itself(process: psutil.Process) -> bool:
    """True for Ray's agents, which no actor of ours runs in."""
    try:
        return str(process.cmdline()[0]).startswith(("ray::DashboardAgent", "ray::RuntimeEnvAgent"))
    except (psutil.Error, IndexError):
        return False


def ampd(site: Site, *arguments: str, within: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a command on the site's database to its good end."""
    command = [str(AMPD), "--config", str(site.config), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False, env=environment(None))
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def end_all(tree: Sequence[psutil.Process]) -> None:
    """Kill what is left of processes that tests have started."""
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(tree, END_SECS)


@contextmanager
def workers(
    site: Site, *node_ids: str, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[list[Worker]]:
    """Workers that are up, started side by side."""
    started = [Worker(site, node_id, arguments, env) for node_id in node_ids]
    try:
        yield [worker.up() for worker in started]
    finally:
        for worker in started:
            worker.end()


def environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """Ours without what tests of this process may have set for Ray or Amp."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "AMP_"))}
    return kept | dict(more or {})
