"""A notebook of ours as a reader runs it: from top to bottom, in a kernel of its own, away from the repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.fakes.ampd import clean_env
from tests.fakes.places import REPO

NOTEBOOKS = REPO / "notebooks"
CELL_SECS = 120
FORMAT: Any = nbformat  # it has no types
STATE = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")


@dataclass(frozen=True)
class Executed:
    """A notebook with its outputs."""

    cells: list[Any]

    def cell(self, part: str) -> Any:
        """The only code cell whose source has ``part``."""
        (found,) = (cell for cell in self.cells if cell.cell_type == "code" and part in cell.source)
        return found

    def text(self, part: str) -> str:
        """What that cell printed, and what it showed as plain text."""
        outputs = self.cell(part).outputs
        return "".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs)

    def shows(self, part: str, kind: str) -> str:
        """What that cell shows as ``kind`` (``text/html``, ``image/png``)."""
        outputs = self.cell(part).outputs
        return "".join(out["data"][kind] for out in outputs if kind in out.get("data", {}))


def stored(name: str) -> Any:
    """The notebook as it lies in the repository."""
    return FORMAT.reads((NOTEBOOKS / name).read_text(), as_version=4)


def executed(name: str, directory: Path, env: Mapping[str, str] | None = None, before_the_end: str = "") -> Executed:
    """Run it in ``directory``; ``before_the_end`` is a cell of the test's own, before the last one, which cleans up."""
    notebook = stored(name)
    *cells, goodbye = notebook.cells
    own = [FORMAT.v4.new_code_cell(before_the_end)] if before_the_end else []
    played = FORMAT.v4.new_notebook(cells=[*cells, *own, goodbye], metadata=notebook.metadata)
    state = {variable: str(directory / variable) for variable in STATE}
    resources = {"metadata": {"path": str(directory)}}
    with pytest.MonkeyPatch.context() as patched:  # this process starts the kernel, and Jupyter has files of its own
        for variable, value in state.items():
            patched.setenv(variable, value)
        NotebookClient(played, timeout=CELL_SECS, resources=resources).execute(env=clean_env({**state, **(env or {})}))
    return Executed(played.cells)
