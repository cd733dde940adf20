"""Ctrl-C in the middle of a backfill, as a terminal sends it; then the same command again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ampd_ray as amp
from ampd_ray.client.displays.words import spans_of
from tests.fakes.ampd import AMPD, ampd, clean_env
from tests.fakes.process import processes_in, running
from tests.fakes.solo import nothing_left_in
from tests.fakes.terminal import COLUMNS, CTRL_C, terminal

BLOCKS = 3_200
PER_MINUTE = 1200  # as many at once, then twenty a second: there is a middle, and it lasts


@pytest.fixture
def rpc() -> Iterator[str]:
    with running([*AMPD, "devnet", "--blocks", str(BLOCKS), "--port", "0"], r"LISTENING (\S+)") as ready:
        yield ready[1]


def provider(amp_dir: Path, rpc: str, more: str = "") -> None:
    (amp_dir / "providers").mkdir(parents=True, exist_ok=True)
    text = f'kind = "evm-rpc"\nnetwork = "devnet"\nurl = "{rpc}"\n{more}'
    (amp_dir / "providers" / "devnet.toml").write_text(text)


@pytest.fixture
def amp_dir(tmp_path: Path) -> Iterator[Path]:
    with nothing_left_in(tmp_path / "amp"):
        yield tmp_path / "amp"


@pytest.mark.timeout(300)
def test_ctrl_c_commits_what_is_complete_and_the_same_command_resumes(rpc: str, amp_dir: Path) -> None:
    command = [*AMPD, "backfill", "--rpc", rpc, "--blocks", f"0:{BLOCKS}", "--amp-dir", str(amp_dir)]
    provider(amp_dir, rpc, f"rate_limit_per_minute = {PER_MINUTE}\n")

    with terminal(command, clean_env()) as first:
        first.shows(r" [1-9]\d? %  [\d,]+ of 3,200 blocks")  # the bar, and some of it done
        first.type(CTRL_C)
        first.shows("stopping: complete blocks are committed first")
        code = first.ends()
    said = first.text()
    assert code == 1, said
    assert "stopped; the same command again resumes" in said
    covered = re.search(rf"blocks +([\d,]+) of 3,200 \(0 to {BLOCKS - 1:,}\)", said)
    assert covered is not None, said
    done = int(covered[1].replace(",", ""))
    assert 0 < done < BLOCKS
    holes = re.search(r"holes +(\d.*\S)", said)
    assert holes is not None, said
    bars = [line for line in said.splitlines() if "░" in line]
    assert max(map(len, bars)) < COLUMNS, bars  # or it would not stay on its line
    assert processes_in(amp_dir) == []

    provider(amp_dir, rpc)
    with amp.inspect(amp_dir) as client:
        kept = client.files("_/devnet", "blocks")
        left = client.job(1).summary()
    assert left.blocks == done
    assert spans_of(left.holes, 10) == holes[1]  # also between: what was complete out of order is kept
    again = ampd(*command[len(AMPD) :], "--json")
    assert again.code == 0, again.err
    assert f"resuming: {100 * done // BLOCKS} % covered" in again.err
    summary = json.loads(again.out.splitlines()[-1])
    assert (summary["blocks"], summary["rows"]["blocks"], summary["holes"]) == (BLOCKS, BLOCKS, [])
    with amp.inspect(amp_dir) as client:
        assert set(kept) <= set(client.files("_/devnet", "blocks"))
        numbers = client.scan("_/devnet", "blocks").to_table(columns=["block_num"])["block_num"].to_pylist()
        assert numbers == list(range(BLOCKS))
        for table in ("transactions", "logs"):
            assert client.scan("_/devnet", table).count_rows() == summary["rows"][table] > BLOCKS
    assert processes_in(amp_dir) == []


def test_a_solo_environment_that_no_session_uses_ends_while_it_starts(amp_dir: Path) -> None:
    done = ampd("solo", "--amp-dir", str(amp_dir), "--until-unused")
    assert done.code == 0, done.err
    assert "no session uses this environment and no job runs in it: it ends" in done.err
    assert processes_in(amp_dir) == []
