"""Where things are: the checkout, and what lies beside it."""

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SHARED = REPO.parent / "shared"
CHAIN_DATA = SHARED / "chain-data"
RPC_TOOLS = SHARED / "tools" / "rpc"
ANVIL = REPO / ".cache" / "anvil" / "anvil"


def needs(path: Path) -> Path:
    """``path`` in ``../shared``, which a clone of its own does without: the test is skipped then.

    Where ``CI`` is set and ``../shared`` is there, the test fails: it would never run otherwise, and nobody would know.
    """
    if path.exists():
        return path
    if os.environ.get("CI") and SHARED.is_dir():
        pytest.fail(f"{path.name} is not in {path.parent}, where tests have what they need", pytrace=False)
    pytest.skip(f"needs {path.relative_to(SHARED.parent)} beside the checkout")
