"""Fixtures that every tier shares."""

from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"


@pytest.fixture(scope="session")
def chain_data() -> Path:
    """The folder of real chain data beside the checkout."""
    folder = SHARED / "chain-data"
    if not folder.is_dir():
        pytest.skip("needs the chain data in ../shared/chain-data")
    return folder
