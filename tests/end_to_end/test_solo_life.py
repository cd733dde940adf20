"""A solo environment whose kernel is killed while its job runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import ampd_ray as amp
from ampd_ray.client.solo_lock import runs_in
from tests.fakes.ampd import AMPD, clean_env
from tests.fakes.process import processes_in, running
from tests.fakes.site import wait_until
from tests.fakes.solo import nothing_left_in

BLOCKS = 3_000  # some seconds of work
# A kernel that closes its session while its job runs, and takes up another.
KERNEL = f"""
import sys, time
import ampd_ray as amp

client = amp.local(sys.argv[1])
amp.backfill(client, rpc=sys.argv[2], blocks="0:{BLOCKS}")
print("STARTED", flush=True)
sys.stdin.readline()
started = time.monotonic()
client.close()
print(time.monotonic() - started, flush=True)
client = amp.local(sys.argv[1])
print("BACK", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def amp_dir(tmp_path: Path) -> Iterator[Path]:
    with nothing_left_in(tmp_path / "amp"):
        yield tmp_path / "amp"


@pytest.fixture
def chain() -> Iterator[tuple[str, psutil.Process]]:
    """Its address, and its process, which a test may halt: a job that asks it waits."""
    with running([*AMPD, "devnet", "--blocks", str(BLOCKS), "--port", "0"], r"LISTENING (\S+)") as ready:
        (process,) = [each for each in psutil.Process().children() if "devnet" in each.cmdline()]
        yield ready[1], process
        process.resume()


def test_a_job_goes_on_without_its_kernel_and_the_environment_ends_with_it(
    amp_dir: Path, chain: tuple[str, psutil.Process]
) -> None:
    url, node = chain
    with subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(amp_dir), url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=clean_env(), start_new_session=True,
    ) as kernel:  # fmt: skip
        try:
            assert kernel.stdin is not None
            assert kernel.stdout is not None
            assert kernel.stdout.readline() == "STARTED\n"
            node.suspend()
            kernel.stdin.write("close\n")
            assert float(kernel.stdout.readline()) < 5, "close waits for nothing, since the job goes on"
            assert kernel.stdout.readline() == "BACK\n"
            second = amp.local(amp_dir)
        finally:
            kernel.kill()
    with second:
        job = second.job(1)
        assert not job.status().terminal
        assert [worker.alive for worker in second.workers()] == [True]
        second.calls.check()
    assert runs_in(amp_dir)
    node.resume()
    wait_until(lambda: not processes_in(amp_dir))
    with amp.inspect(amp_dir) as client:
        assert client.job(1).status() == "COMPLETED"
        assert client.scan("_/devnet", "blocks").count_rows() == BLOCKS
