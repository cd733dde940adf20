"""Lists that show themselves as tables, and are lists in everything else."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime

from IPython.core.formatters import DisplayFormatter

from ampd_ray.client.displays.rows import CELL_CHARS, MOST_ROWS, Rows
from ampd_ray.client.listed import of_event, of_worker
from ampd_ray.metadb.jobs import JobEvent
from ampd_ray.metadb.workers import WorkerRow

NOW = datetime(2026, 3, 1, 17, 41, 12, tzinfo=UTC)


def columns(item: object) -> Mapping[str, object]:
    return {"item": item, "at": NOW}


def shown(rows: object) -> dict[str, str]:
    bundle: dict[str, str] = DisplayFormatter().format(rows)[0]  # type: ignore[no-untyped-call]
    return bundle


def test_it_is_a_table_in_a_notebook() -> None:
    bundle = shown(Rows(["a", 1234], columns))
    assert bundle["text/plain"].splitlines() == [
        "item   at",
        "a      2026-03-01 17:41:12",
        "1,234  2026-03-01 17:41:12",
    ]
    assert bundle["text/html"].count("<tr>") == 3


def test_what_others_wrote_is_escaped_and_all_is_bounded() -> None:
    bundle = shown(Rows(["<script>\n\x1b[31m" + "x" * 1000] * 1000, columns))
    assert "<script>" not in bundle["text/html"]
    assert "\x1b" not in bundle["text/plain"] + bundle["text/html"]
    lines = bundle["text/plain"].splitlines()
    assert (len(lines), lines[-1]) == (MOST_ROWS + 2, "and 950 more")
    assert max(map(len, lines)) <= CELL_CHARS + 30
    assert "and 950 more" in bundle["text/html"]


def test_it_is_a_list_in_everything_else() -> None:
    rows, same = Rows([1, 2], columns), [1, 2]
    assert rows == same
    assert isinstance(rows, list)
    assert (repr(rows), json.dumps(rows), rows[:1]) == ("[1, 2]", "[1, 2]", [1])
    again = pickle.loads(pickle.dumps(rows))
    assert (again, shown(again)) == (same, shown(rows))
    assert shown(Rows([], columns)) == {"text/plain": "[]"}


def test_a_failure_says_why_and_a_worker_how_it_is() -> None:
    failed = JobEvent(1, NOW, "w1", "FATAL", {"error_code": "RPC_REFUSED", "error_message": "401"})
    assert of_event(failed)["reason"] == "401"
    assert of_event(JobEvent(1, NOW, "w1", "RUNNING", None))["reason"] == ""
    worker = WorkerRow("w1", NOW, {}, NOW, NOW, alive=True, draining=True, ended=False, active_jobs=2)
    assert (of_worker(worker)["state"], of_worker(worker)["active jobs"]) == ("draining", 2)
