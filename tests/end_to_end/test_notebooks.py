"""The notebooks hold: executed from top to bottom against the devnet, each shows what its text says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ampd_ray as amp
from tests.fakes.notebook import NOTEBOOKS, executed, stored
from tests.fakes.process import processes_in

NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
RAY_FREE = 'import sys\nprint("ray loaded:", "ray" in sys.modules)'
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory whose solo environment runs already: notebooks join it, which saves them its start."""
    directory = tmp_path_factory.mktemp("notebooks")
    with amp.local(directory / ".amp"):
        yield directory


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short_and_stored_without_outputs(name: str) -> None:
    notebook = stored(name)
    assert len(notebook.cells) < 15
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_backfill_plans_runs_stops_and_resumes_without_ray_in_its_kernel(tmp_path: Path) -> None:
    """It starts the environment that it uses, and nothing is left of that when it has ended."""
    run = executed("01_backfill.ipynb", tmp_path, before_the_end=RAY_FREE)

    assert re.search(r"blocks +3,000 to extract", run.text("amp.plan("))
    assert "<table" in run.shows("amp.plan(", "text/html")
    assert "3,000 blocks" in run.shows("rate_limit_per_minute", "text/html")
    assert re.search(r"holes +\d", run.text("job.stop()"))
    assert re.search(r"resuming: [1-9]", run.text("resuming"))
    assert re.search(r"holes +none", run.text("resuming"))
    assert "<svg" in run.shows("rates()", "text/html")
    assert "ray loaded: False" in run.text("ray loaded")
    assert processes_in(tmp_path) == []


def test_gaps_are_pictured_listed_and_mended(place: Path) -> None:
    run = executed("02_progress_and_gaps.ipynb", place, before_the_end="print(dataset.coverage().as_json())")

    assert "700 to 701, 1,500; 3 quarantined" in run.text("job = amp.backfill(")
    assert re.findall(r"^([\d,]+)  devnet block", run.text("job.holes()"), re.MULTILINE) == ["700", "701", "1,500"]
    assert re.search(r"holes +none", run.text("quarantined=True"))
    assert "NO_SUCH_TOKEN" in run.text("except amp.JobFailed")
    assert "NO_SUCH_TOKEN" in run.text("job.failures()")
    covered = json.loads(run.text("as_json()").replace("'", '"'))
    assert [table["covered"] for table in covered["tables"].values()] == [[[0, 1999]]] * 3


def test_four_libraries_read_the_same_rows(place: Path) -> None:
    rows = 'print(json.dumps([dataset.scan(t).count_rows() for t in ("blocks", "logs")] + [len(blocks), len(logs)]))'
    run = executed("03_read_parquet.ipynb", place, before_the_end=f"import json\n{rows}")

    assert re.findall(r"'block_num': (\d+)", run.text('blocks="-3:"')) == ["2997", "2998", "2999"]
    assert run.text("order by logs desc").count("0x") == 5
    assert run.cell("group_by_dynamic").outputs[-1]["data"]["image/png"]
    assert run.cell("resample").outputs[-1]["data"]["image/png"]
    blocks, logs, in_polars, transfers = json.loads(run.text("count_rows"))
    assert (blocks, in_polars) == (3000, 3000)
    assert 0 < transfers < logs
