"""How much memory a piece of a test takes at its peak (Linux counts it)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PROC = Path("/proc/self")


class Peak:
    """``grown`` is the highest resident size within the context above that at its start, in bytes."""

    grown = 0


@contextmanager
def peak() -> Iterator[Peak]:
    """Measure this process; ``grown`` is set at the end."""
    if not _PROC.is_dir():
        pytest.skip("only Linux counts peaks of memory")
    measured = Peak()
    (_PROC / "clear_refs").write_text("5")  # the high-water mark begins anew
    before = _status("VmRSS")
    yield measured
    measured.grown = _status("VmHWM") - before


def _status(field: str) -> int:
    lines = (_PROC / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
