"""Blocks that were set aside in a solo environment which has ended: the commands that backfill prints fill them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import ampd_ray as amp
from ampd_ray.client.repeated import done_before
from ampd_ray.client.request import BackfillRequest, probe
from tests.fakes.ampd import ampd
from tests.fakes.devnet import Devnet, devnet
from tests.fakes.process import processes_in
from tests.fakes.site import wait_until
from tests.fakes.solo import nothing_left_in

BLOCKS = 30
BAD = 17


@pytest.fixture
def chain() -> Iterator[Devnet]:
    with devnet(BLOCKS) as running:
        yield running


@pytest.mark.timeout(300)
def test_the_printed_retry_starts_the_environment_and_leaves_it_to_its_job(chain: Devnet, tmp_path: Path) -> None:
    amp_dir = tmp_path / "amp"
    chain.call("devnet_spoil", BAD)
    with nothing_left_in(amp_dir):
        first = ampd("backfill", "--rpc", chain.url, "--blocks", f"0:{BLOCKS}", "--amp-dir", amp_dir)
        assert first.code == 1, first.err
        (printed,) = [line for line in first.out.splitlines() if line.startswith("to ask again: ampd ")]
        assert processes_in(amp_dir) == []

        chain.call("devnet_spoil")
        again = ampd(*shlex.split(printed.removeprefix("to ask again: ampd ")))
        assert again.code == 0, again.err
        assert "starting Postgres, Ray and a worker …" in again.err
        assert f"in the background; to watch it: ampd jobs watch 1 --amp-dir {amp_dir}" in again.err
        watched = ampd("jobs", "watch", "1", "--until-ended", "--amp-dir", amp_dir)
        assert (watched.code, watched.out) == (0, f"job 1 is complete: {BLOCKS} of {BLOCKS} blocks, no holes\n")
        wait_until(lambda: not processes_in(amp_dir))

        same = ampd("backfill", "--rpc", chain.url, "--blocks", f"0:{BLOCKS}", "--amp-dir", amp_dir)
        assert (same.code, "resuming: 100 % covered, nothing to do\n" in same.err) == (0, True), same.err
        assert "starting" not in same.err
        assert f"blocks    {BLOCKS} of {BLOCKS} (0 to {BLOCKS - 1})" in same.out
        found = probe(BackfillRequest(chain.url, f"0:{BLOCKS}"))
        for other in (
            {"blocks": f"0:{BLOCKS + 1}"},
            {"blocks": f"1:{BLOCKS}"},
            {"tables": ("logs",)},
            {"verify": True},
        ):
            request = replace(BackfillRequest(chain.url, f"0:{BLOCKS}"), **other)
            assert done_before(amp_dir, request, found) is None, other
        assert done_before(tmp_path, BackfillRequest(chain.url, f"0:{BLOCKS}"), found) is None

        with amp.inspect(amp_dir) as client:
            assert client.scan("_/devnet", "blocks").count_rows() == BLOCKS
            with pytest.raises(amp.SchedulerError, match=r"in a solo environment with: ampd solo, or amp\.local\(\)"):
                client.job(1).retry()
