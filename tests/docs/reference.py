"""The pages that are made from the code, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.docs.cli import cli_page
from tests.docs.configuration import configuration_page
from tests.docs.errors import errors_page
from tests.docs.python import python_page
from tests.fakes.places import REPO

REFERENCE = REPO / "docs" / "reference"

GENERATED: Mapping[Path, Callable[[], str]] = {
    REFERENCE / "cli.md": cli_page,
    REFERENCE / "python.md": python_page,
    REFERENCE / "configuration.md": configuration_page,
    REFERENCE / "errors.md": errors_page,
}


def write() -> Iterator[Path]:
    """Write them; yields what has changed."""
    for path, made in GENERATED.items():
        text = made()
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            yield path.relative_to(REPO)
