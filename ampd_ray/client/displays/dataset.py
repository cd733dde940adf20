"""A dataset in a few lines: its tables with rows, files and bytes, and the picture of what is there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from ampd_ray.client.displays.coverage import coverage_text
from ampd_ray.client.displays.coverage_svg import coverage_svg
from ampd_ray.client.displays.figures import size
from ampd_ray.client.displays.words import spans_of
from ampd_ray.metadb.files import TableSummary

if TYPE_CHECKING:
    from ampd_ray.client.coverage import Coverage

HEADER = ("table", "rows", "files", "size", "blocks")
NUMBERS = {1, 2, 3}


def dataset_text(tables: Mapping[str, TableSummary], coverage: Coverage) -> str:
    """The tables, aligned, and below them the picture."""
    lines = [HEADER, *_lines(tables)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(
            cell.rjust(width) if at in NUMBERS else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([coverage_text(coverage, shutil.get_terminal_size().columns), "", *table])


def dataset_html(tables: Mapping[str, TableSummary], coverage: Coverage) -> str:
    """The same for a notebook."""
    head, *body = ("".join(map(_cell, line, range(len(line)))) for line in (HEADER, *_lines(tables)))
    rows = "".join(f"<tr>{cells}</tr>" for cells in body)
    style = "font:12px system-ui,sans-serif;border-collapse:collapse;margin:6px 0"
    table = f'<table style="{style}"><thead style="opacity:.75"><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f"<div>{coverage_svg(coverage)}{table}</div>"


def _cell(text: str, at: int) -> str:
    side = "right" if at in NUMBERS else "left"
    return f'<td style="text-align:{side};padding:2px 20px 2px 0">{escape(text)}</td>'


def _lines(tables: Mapping[str, TableSummary]) -> list[tuple[str, ...]]:
    return [
        (name, f"{table.rows:,}", f"{table.files:,}", size(table.bytes), spans_of(table.covered, 2) or "none")
        for name, table in tables.items()
    ]
