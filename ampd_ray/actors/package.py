"""Whether a Ray node has our package, in the version of the driver: nobody but its machine can bring it.

A Ray job's working directory can, but only what can be had without building: without the compiled path.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import ray

import ampd_ray
from ampd_ray.errors import PackageMismatch

SAME: Final = "Install the same on every machine of the cluster: pip install ampd-ray==%s"
_LACKS: Final = re.compile(r"No module named 'ampd_ray'")
_HAS_ANOTHER: Final = re.compile(
    r"No module named 'ampd_ray\.|Can't get attribute '\w+' on <module 'ampd_ray|TypeError: \w+Actor\.__init__\(\)"
)
_WORKING_DIR: Final = "/working_dir_files/"  # in the paths of what Ray brought


def check(version: str) -> None:
    """Raises ``PackageMismatch`` in a process that has another version than ``version``, its driver's."""
    if version != ampd_ray.__version__:
        address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        raise _mismatch(f"{address} has ampd-ray {ampd_ray.__version__}, its worker {version}", version)


def missing(error: Exception) -> PackageMismatch | None:
    """What is wrong if an actor did not start for lack of our package, or of what is in it: Ray tells it in words."""
    said = str(error)
    place = re.search(r"\bip=([^,)\s]+)", said)
    where = place[1] if place else "of an actor"
    version = ampd_ray.__version__
    if _LACKS.search(said):
        return _mismatch(f"{where} has no ampd-ray", version)
    if _HAS_ANOTHER.search(said):
        return _mismatch(f"{where} has another ampd-ray than its worker, {version}", version)
    return None


def _mismatch(fact: str, version: str) -> PackageMismatch:
    return PackageMismatch(f"the Ray node {fact}. {SAME % version}")


def origin() -> str:
    """Where this process has our package from, with what is to be done about a poor place."""
    directory = Path(ampd_ray.__file__).parent
    if _WORKING_DIR not in str(directory):
        return f"in {directory}"
    return (
        "in the working directory of a Ray job, which Ray takes from a checkout without what is built; submit with "
        "--working-dir jobs, and install the package on every machine"
    )
