"""The checker of a world: whatever is broken by hand is found, each invariant by its name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.check.checker import Checker, Look
from tests.chaos.check.files import File
from tests.chaos.check.objects import STAGING, is_there
from tests.chaos.check.processes import MOST, SETTLED, Use, Uses, staging
from tests.chaos.check.story import Story, judge
from tests.chaos.conftest import DATASET, LAST, Made
from tests.consensus import Rebuilt, rebuild
from tests.fakes.ampd import CANARY
from tests.servers import as_owner

GOOD = Story(seed=1, injected={"kill": 1}, recovered_secs=3.0, within_secs=5.0, calm=[(7, 2), (8, 2)], late=[])


@pytest.fixture
def checker(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checker:
    """It has looked at everything once and found nothing."""
    monkeypatch.setattr("tests.chaos.check.checker.SWEPT_SECS", 0.0)
    checker = Checker(as_owner(made.url), made.chain.url, made.data, [tmp_path], CANARY)
    look = Look({DATASET: (0, LAST)}, [os.getpid()], GOOD, full=True)
    assert checker.look(look)["problems"] == []
    return checker


def found(checker: Checker, *, full: bool = False) -> set[str]:
    return {problem[:2] for problem in checker.look(Look({DATASET: (0, LAST)}, full=full))["problems"]}


def test_an_object_that_nobody_knows_is_found(checker: Checker, made: Made) -> None:
    location, directory = made.revision()
    (directory / "000000000-0000000000000000.parquet").touch()
    assert found(checker) == {"I3"}
    announce = f"insert into ampd_ray.file_intent values ({location}, '000000000-0000000000000000.parquet', "
    made.execute(announce + "1, null, now(), null)")
    assert found(checker) == set()  # it is on its way
    assert found(checker, full=True) == {"I3"}
    made.execute("update ampd_ray.location_lease set epoch = 5, expires_at = now() + interval '1 min'")
    assert found(checker) == {"I3"}  # a sweep should have taken it
    made.execute("update ampd_ray.file_intent set swept_at = now()")
    assert found(checker) == set()  # a late writer's; it is looked for again
    made.execute(f"insert into ampd_ray.tombstone select 'file://{directory}/' || file_name, location_id "
            "from ampd_ray.file_intent")  # fmt: skip
    assert found(checker, full=True) == set()


def test_what_is_left_in_staging_is_found(checker: Checker, made: Made) -> None:
    location, _ = made.revision()
    left = made.data / STAGING / str(location) / "1" / "left.parquet"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    assert found(checker, full=True) == {"I3"}
    made.execute("update ampd_ray.location_lease set epoch = 5, expires_at = now() + interval '1 min'")
    assert found(checker) == {"I3"}


def test_rows_of_another_branch_are_found(checker: Checker, made: Made) -> None:
    head = made.chain.chain.head.hash
    made.chain.reorg(3)
    assert found(checker, full=True) == {"I4"}
    made.chain.switch(head)
    assert found(checker, full=True) == set()


def test_a_node_whose_hashes_are_wrong_is_found(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    def otherwise(*rows: Any) -> Rebuilt:
        built = rebuild(*rows)
        return Rebuilt(bytes(32), built.transactions_root, bytes(32), built.transaction_hashes)

    monkeypatch.setattr("tests.chaos.check.chain.rebuild", otherwise)
    checker.dump.distrust()
    assert found(checker, full=True) == {"I4"}


def test_a_job_that_waits_for_a_dead_node_is_found(checker: Checker, made: Made) -> None:
    for table in (
        "workers set heartbeat_at = heartbeat_at",
        "jobs_status set status = 'RUNNING', updated_at = updated_at",
    ):
        made.execute(f"update {table} - interval '1 min'")
    made.execute("delete from job_events where event_type = 'COMPLETED'")
    assert found(checker) == {"I5"}


@pytest.mark.parametrize("table", ["location_lease", "node_lease"])
def test_an_epoch_that_falls_between_two_looks_is_found(checker: Checker, made: Made, table: str) -> None:
    made.execute("insert into ampd_ray.node_lease values ('x', 9, gen_random_uuid(), now())")
    made.execute("update ampd_ray.location_lease set epoch = 9")
    assert found(checker) == set()
    made.execute(f"update ampd_ray.{table} set epoch = 8")
    assert found(checker) == {"I6"}


def test_an_object_that_vanished_after_it_was_seen_is_found(checker: Checker, made: Made) -> None:
    _, directory = made.revision()
    next(directory.iterdir()).unlink()
    assert found(checker) == {"I2"}


@pytest.mark.parametrize("canonical", [False, True])
def test_a_file_may_be_collected_meanwhile_if_it_was_set_aside(
    checker: Checker, made: Made, monkeypatch: pytest.MonkeyPatch, canonical: bool
) -> None:
    made.execute(f"update ampd_ray.segment set canonical = {canonical}")

    def collect(file: File) -> list[str]:
        made.execute("delete from gc_manifest")
        file.path.unlink()
        made.execute(f"delete from file_metadata where id = {file.id}")
        return list(is_there(file))

    monkeypatch.setattr("tests.chaos.check.objects.is_there", collect)
    problems = checker.look(Look({DATASET: (0, LAST)}))["problems"]
    assert any("missing" in problem for problem in problems) == canonical


def test_flags_that_readers_would_not_agree_with_are_found(checker: Checker, made: Made) -> None:
    made.execute("update ampd_ray.segment set canonical = false")
    assert "I1" in found(checker)
    problems = checker.look(Look({DATASET: (0, LAST)}))["problems"]
    assert any("live for readers" in problem for problem in problems)


def test_a_file_that_becomes_canonical_is_compared_with_the_node(checker: Checker, made: Made) -> None:
    made.execute("update ampd_ray.segment set canonical = false")
    head = made.chain.chain.head.hash
    made.chain.reorg(3)
    assert "I4" not in found(checker, full=True)
    made.execute("update ampd_ray.segment set canonical = true")
    assert found(checker) == {"I4"}
    made.chain.switch(head)


@pytest.mark.parametrize("epoch", ["epoch - 1", "epoch + 1"])
def test_a_commit_under_another_epoch_is_seen_when_it_happens(checker: Checker, made: Made, epoch: str) -> None:
    made.execute("insert into ampd_ray.segment select -1, location_id, network, blocks, start_parent, end_hash, "
            f"sha256, {epoch}, verified, false, row_count from ampd_ray.segment limit 1")  # fmt: skip
    made.execute("update ampd_ray.segment set epoch = 1 where file_id = -1")
    assert "I6" in found(checker)


PLACES: dict[str, Callable[[Made, Path], object]] = {
    "a log": lambda _, logs: (logs / "x.log").write_text(f"connecting to postgresql://me:{CANARY}@host"),
    "a row": lambda made, _: made.execute(f'update workers set info = \'{{"url": "{CANARY}"}}\''),
    "a row, as bytes": lambda made, _: made.execute(f"update footer_cache set footer = '{CANARY}'"),
    "a file": lambda made, _: next(made.revision()[1].iterdir()).write_text(CANARY),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_found_wherever_it_is(checker: Checker, made: Made, tmp_path: Path, place: str) -> None:
    PLACES[place](made, tmp_path)
    assert "I9" in found(checker, full=True)


def test_a_secret_in_a_title_is_found(checker: Checker) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", CANARY], stdin=subprocess.PIPE) as careless:
        problems = checker.look(Look({}, [careless.pid]))["problems"]
        careless.kill()
    assert [problem[:2] for problem in problems] == ["I9"]


def test_a_process_that_uses_too_much_or_more_and_more_is_found() -> None:
    pid = [os.getpid()]
    assert list(Uses(MOST).look(pid)) == []
    for most in (Use(1, 999, 999), Use(1 << 40, 1, 999), Use(1 << 40, 999, 0)):
        assert [problem[:2] for problem in Uses(most).look(pid)] == ["I8"]
    uses = Uses(MOST, growth=Use(1 << 40, 3, 99))
    assert [list(uses.look(pid)) for _ in range(SETTLED)] == [[]] * SETTLED
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    assert ["descriptors" in problem for problem in uses.look(pid)] == [True]
    for each in opened:
        os.close(each)


def test_a_full_staging_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(11))
    assert list(staging(tmp_path, 11)) == []
    assert [problem[:2] for problem in staging(tmp_path, 10)] == ["I8"]


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        ({"recovered_secs": 5.1}, "I10"),
        ({"recovered_secs": None}, "I10"),
        ({"late": ["something"]}, "I10"),
        ({"calm": [(7, 2), (7, 2)]}, "I11"),
        ({"calm": [(7, 2), (9, 3)]}, "I11"),
        ({"calm": [(7, 2)]}, "I11"),
        ({"injected": {"kill": 1, "pause": 0}}, "I12"),
        ({"injected": {}}, "I12"),
    ],
)
def test_a_story_that_ends_badly_is_found(change: dict[str, Any], invariant: str) -> None:
    assert list(judge(GOOD)) == []
    assert [problem.split()[0] for problem in judge(Story(**{**GOOD, **change}))] == [invariant]  # type: ignore[typeddict-item]
