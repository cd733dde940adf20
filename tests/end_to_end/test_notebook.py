"""The notebook as a reader runs it: from top to bottom in a kernel of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.fakes.ampd import clean_env
from tests.fakes.places import REPO
from tests.fakes.process import processes_in
from tests.fakes.solo import nothing_left_in

NOTEBOOK = REPO / "notebooks" / "01_backfill.ipynb"
CELL_SECS = 120
FORMAT: Any = nbformat  # it has no types
AT_THE_END = """\
import json
rows = [client.scan(run.dataset, "blocks").count_rows(), transactions.count_rows(), logs.count_rows()]
print(json.dumps({"ray": "ray" in sys.modules, "rows": rows}))
"""


@pytest.fixture(scope="module")
def notebook() -> Any:
    return FORMAT.reads(NOTEBOOK.read_text(), as_version=4)


def test_it_is_short_and_stored_without_outputs(notebook: Any) -> None:
    assert len(notebook.cells) <= 12
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.timeout(300)
def test_it_runs_from_top_to_bottom_without_ray_in_its_kernel(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    *cells, goodbye = notebook.cells
    check = FORMAT.v4.new_code_cell(AT_THE_END)
    played = FORMAT.v4.new_notebook(cells=[*cells, check, goodbye], metadata=notebook.metadata)
    resources = {"metadata": {"path": str(tmp_path)}}
    with nothing_left_in(tmp_path):
        NotebookClient(played, timeout=CELL_SECS, resources=resources).execute(env=clean_env())
        assert processes_in(tmp_path) == []

    stopped, resumed = (cell for cell in played.cells if "run.wait(" in cell.source)
    assert "holes=[Span(" in text(stopped)
    assert "resuming: " in text(resumed)
    assert "holes=[]" in text(resumed)
    end = json.loads(text(check))
    assert end["ray"] is False
    assert end["rows"][0] == 3000


def text(cell: Any) -> str:
    """What a cell printed, and its value."""
    return "".join(out.get("text") or out["data"]["text/plain"] for out in cell.outputs)
