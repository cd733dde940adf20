"""Failpoints: what arms them, how often they act, what they cost unarmed, and that each is on its way."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from ampd_ray import failpoints
from ampd_ray.errors import ConfigError, FailpointError
from ampd_ray.failpoints import ARMS, FIRED, POINTS, Arm, Armory, parse

PACKAGE = Path(failpoints.__file__).parent


def test_the_grammar() -> None:
    assert parse("published=kill; planned=stop(6)@2*3;mid-file=delay(0.5);committed=raise*4;") == {
        "published": Arm("published", "kill"),
        "planned": Arm("planned", "stop", 6.0, hit=2, times=3),
        "mid-file": Arm("mid-file", "delay", 0.5),
        "committed": Arm("committed", "raise", times=4),
    }


@pytest.mark.parametrize("text", ["published", "published=", "published=explode", "published=kill(3)", "planned=stop"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not POINT=ACTION"):
        parse(text)


def test_a_point_that_does_not_exist_would_never_fire() -> None:
    with pytest.raises(ConfigError, match="no point 'publish', only job-claimed, planned"):
        parse("publish=kill")


def test_nothing_is_armed_by_default() -> None:
    assert Armory.of({}) is None
    assert Armory.of({ARMS: "  "}) is None


def test_a_point_acts_from_its_hit_on_and_so_many_times() -> None:
    armory = Armory("planned=raise@2*2", None)
    assert [bool(armory.draw("planned")) for _ in range(5)] == [False, True, True, False, False]
    assert armory.draw("published") is None


def test_what_fired_is_counted_across_processes(tmp_path: Path) -> None:
    armed = {ARMS: "planned=raise*3", FIRED: str(tmp_path)}
    one, other = Armory.of(armed), Armory.of(armed)
    assert one is not None
    assert other is not None
    assert [bool(each.draw("planned")) for each in (one, other, one, other, one)] == [True, True, True, False, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["planned.0001", "planned.0002", "planned.0003"]
    assert (tmp_path / "planned.0001").read_text() == f"{os.getpid()} raise"


def test_a_file_arms_and_disarms_a_process_that_runs(tmp_path: Path) -> None:
    file = tmp_path / "armed"
    armory = Armory(f"@{file}", None)
    assert armory.draw("planned") is None
    file.write_text("planned=raise*9")
    assert armory.draw("planned") is not None
    file.write_text("")
    assert armory.draw("planned") is None


async def test_raise_and_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_armory", Armory("planned=raise*2; published=delay(0.05)*2", None))
    with pytest.raises(FailpointError) as raised:
        await failpoints.reach("planned")
    assert raised.value.retryable
    with pytest.raises(FailpointError):
        failpoints.reach_in_thread("planned")
    for wait in (failpoints.reach("published"), asyncio.to_thread(failpoints.reach_in_thread, "published")):
        started = time.monotonic()
        await wait
        assert time.monotonic() - started >= 0.05


def process(tmp_path: Path, arms: str) -> subprocess.Popen[str]:
    code = "from ampd_ray import failpoints as f; print('here', flush=True); f.reach_in_thread('planned'); print('on')"
    environ = os.environ | {ARMS: arms, FIRED: str(tmp_path)}
    return subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True)


def test_kill_ends_the_process_at_once(tmp_path: Path) -> None:
    with process(tmp_path, "planned=kill") as killed:
        assert killed.communicate(timeout=30)[0] == "here\n"
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["planned.0001"]


def test_stop_halts_the_process_for_a_while(tmp_path: Path) -> None:
    with process(tmp_path, "planned=stop(0.5)") as stopped:
        while psutil.Process(stopped.pid).status() != psutil.STATUS_STOPPED:
            assert stopped.poll() is None
        assert stopped.communicate(timeout=30)[0] == "here\non\n"
    assert stopped.returncode == 0


def test_an_unarmed_point_costs_next_to_nothing() -> None:
    def cost(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            failpoints.reach_in_thread("planned")
        return (time.perf_counter() - started) / times

    assert failpoints._armory is None
    assert min(cost(10_000) for _ in range(5)) < 2e-6  # a segment passes some twenty of them


def test_each_point_is_on_its_way_just_once() -> None:
    """A point that nobody reaches, or two places under one name, would make its count mean nothing."""
    reached: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(ast.Attribute(ast.Name("failpoints"), _), [ast.Constant(str(point))]):
                    reached[point] += 1
    assert reached == Counter(POINTS)
