"""What is said of a Ray node that has not the driver's package: Ray's own words, as 2.60 has them, made one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import ampd_ray
from ampd_ray.actors import package
from ampd_ray.errors import PackageMismatch

AT = (
    "The actor died because of an error raised in its creation task, "
    "ray::ExtractorActor.__init__() (pid=7, ip=10.0.0.3, actor_id=51, repr=<a>)\n"
)


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("ray.exceptions.RaySystemError: System error: No module named 'ampd_ray'\n", "has no ampd-ray"),
        ("ModuleNotFoundError: No module named 'ampd_ray.config.sealed'", "has another ampd-ray than its worker"),
        ("AttributeError: Can't get attribute 'Sizes' on <module 'ampd_ray.node.sizes' from ", "has another ampd-ray"),
        ("TypeError: ExtractorActor.__init__() takes 1 positional argument but 2 were given", "has another ampd-ray"),
    ],
)
def test_a_lack_is_told_with_the_place_and_the_way_out(said: str, fact: str) -> None:
    error = package.missing(RuntimeError(AT + said))
    assert isinstance(error, PackageMismatch)
    assert str(error).startswith(f"the Ray node 10.0.0.3 {fact}")
    assert f"pip install ampd-ray=={ampd_ray.__version__}" in str(error)
    assert error.retryable


@pytest.mark.parametrize("said", ["", "ModuleNotFoundError: No module named 'pyarrow'", "ValueError: no such thing"])
def test_other_errors_are_none_of_it(said: str) -> None:
    assert package.missing(RuntimeError(AT + said)) is None


def test_our_own_version_is_taken() -> None:
    package.check(ampd_ray.__version__)


def test_a_package_that_a_ray_job_brought_is_told_from_an_installed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert package.origin() == f"in {Path(ampd_ray.__file__).parent}"
    brought = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1/ampd_ray/__init__.py"
    monkeypatch.setattr(ampd_ray, "__file__", brought)
    assert "--working-dir jobs" in package.origin()
