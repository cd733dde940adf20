"""The checker finds what is wrong: each invariant broken by hand, one at a time."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.chaos.check import TABLES, check, read_files
from tests.chaos.check.__main__ import main
from tests.chaos.conftest import DATASET, LAST, Made


def first_file(made: Made, table: str) -> Path:
    with psycopg.connect(made.url) as connection:
        return next(file.path for file in read_files(connection, DATASET) if file.table == table)


def test_what_is_good_is_called_good(made: Made) -> None:
    assert check(made.url, DATASET, 0, LAST) == []


BROKEN = {
    "a file is registered no more": ("delete from file_metadata where metadata ->> 'table' = 'logs'", {"I1", "I7"}),
    "a segment is off the chain": ("update ampd_ray.segment set canonical = false where lower(blocks) = 0", {"I1"}),
    "a segment is missing": ("delete from ampd_ray.segment where lower(blocks) = 0", {"I1", "I2", "I6"}),
    "a row tells another size": ("update file_metadata set object_size = object_size + 1", {"I2"}),
    "a row tells another checksum": ("update ampd_ray.segment set sha256 = sha256(sha256)", {"I2"}),
    "a row tells another count": ("update ampd_ray.segment set row_count = row_count + 1", {"I2"}),
    "a row tells other blocks": (
        "update file_metadata set metadata = jsonb_set(metadata, '{ranges,0,numbers,end}', '7')", {"I1", "I2"},
    ),
    "a status came from nowhere": ("update jobs_status set status = 'RUNNING'", {"I5"}),
    "a step was not allowed": (
        "update job_events set event_type = 'STOPPING' where event_type = 'RUNNING'", {"I5"},
    ),
    "an epoch fell": ("update ampd_ray.segment set epoch = 2 where lower(blocks) = 0", {"I6"}),
    "an epoch was never granted": ("update ampd_ray.location_lease set epoch = 0", {"I6"}),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found(made: Made, what: str) -> None:
    statement, expected = BROKEN[what]
    assert made.execute(statement) > 0
    found = {problem[:2] for problem in check(made.url, DATASET, 0, LAST)}
    assert found >= expected


@pytest.mark.parametrize(("detail", "problems"), [('{"reassigned_from": "worker-2"}', 0), ("null", 1)])
def test_a_job_runs_once_more_only_when_it_changes_hands(made: Made, detail: str, problems: int) -> None:
    made.execute("update job_events set id = 1000 where event_type = 'COMPLETED'")
    again = "insert into job_events (id, job_id, node_id, event_type, detail) select 999, id, node_id, 'RUNNING', "
    made.execute(f"{again} '{detail}'::jsonb from jobs")
    assert len(check(made.url, DATASET, 0, LAST)) == problems


@pytest.mark.parametrize("table", TABLES)
def test_lost_and_changed_objects_are_found(made: Made, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = first_file(made, table)
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    assert any("checksum" in problem for problem in check(made.url, DATASET, 0, LAST))
    path.unlink()
    assert any("missing" in problem for problem in check(made.url, DATASET, 0, LAST))
    assert main([made.url, DATASET, "0", str(LAST)]) == 1
    assert "I2" in capsys.readouterr().out


def test_blocks_beyond_the_chain_are_missed(made: Made) -> None:
    assert {problem[:2] for problem in check(made.url, DATASET, 0, LAST + 1)} == {"I1"}
    assert {problem[:2] for problem in check(made.url, DATASET, 1, LAST)} == {"I1"}
