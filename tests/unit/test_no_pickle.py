"""What comes from a node, a database or a store is never unpickled: nothing of ours unpickles anything.

Only Ray does, with what its own processes have sent each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.places import REPO

# Modules that unpickle, or run what they read; and calls that do so with an argument of the right kind.
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
CALLS = {"eval", "exec", "loads_pickle", "read_pickle", "unsafe_load", "full_load", "unpickle"}
SOURCES = [*sorted((REPO / "ampd_ray").rglob("*.py")), *sorted((REPO / "jobs").glob("*.py"))]


def unpicklers(source: str) -> Iterator[str]:
    """The places at which ``source`` could unpickle or run data."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if MODULES & set(each.name.split(".")))
            case ast.ImportFrom(module=module, names=names):
                found = {*(module or "").split("."), *(each.name for each in names)}
                yield from sorted(found & (MODULES | CALLS))
            case ast.Attribute(attr=name) if name in MODULES | (CALLS - {"eval", "exec"}):
                yield name
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield name
            case ast.keyword(arg="allow_pickle", value=value) if not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                yield "allow_pickle"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_nothing_unpickles(path: Path) -> None:
    assert list(unpicklers(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import ray.cloudpickle as cp",
        "from ray import cloudpickle",
        "from pickle import loads",
        "ray.cloudpickle.loads(b'')",
        "np.load(file, allow_pickle=True)",
        "pd.read_pickle(path)",
        "eval(text)",
        "yaml.unsafe_load(text)",
        "import shelve",
    ],
)
def test_the_search_finds_what_does(source: str) -> None:
    assert list(unpicklers(source))
