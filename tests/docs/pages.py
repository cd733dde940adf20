"""A page as tests see it: its fenced blocks, its links, and what a link may lead to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.places import REPO

DOCS = REPO / "docs"
README = REPO / "README.md"

_FENCE = re.compile(r"^```(\w*)(?: ([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fence:
    """A fenced block; ``note`` is what stands behind the language: ``no-run: why``, ``background``, ``example``."""

    page: Path
    line: int
    language: str
    note: str
    text: str

    @property
    def runs(self) -> bool:
        """False for what a test cannot run, as the page says, and for what is to be left running."""
        return not self.note.startswith(("no-run: ", "background"))

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPO)}:{self.line}"


def pages() -> list[Path]:
    """The README and everything in ``docs``."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def fences(page: Path, language: str | None = None) -> list[Fence]:
    """The fenced blocks of a page in order, or those of one language."""
    text = page.read_text()
    found = [
        Fence(page, text.count("\n", 0, match.start()) + 1, match[1], match[2] or "", match[3])
        for match in _FENCE.finditer(text)
    ]
    return [fence for fence in found if language in (None, fence.language)]


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links."""
    yield from re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """What ``#…`` may name on a page: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}
