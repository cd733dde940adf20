"""A dataset in a few lines: its tables with rows, files and bytes, and the picture of what is there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from ampd_ray.client.displays.coverage import coverage_text
from ampd_ray.client.displays.coverage_svg import coverage_svg
from ampd_ray.client.displays.words import size, spans_of
from ampd_ray.metadb.files import TableSummary

if TYPE_CHECKING:
    from ampd_ray.client.coverage import Coverage

HEADER = ("table", "rows", "files", "size", "blocks")


def dataset_text(tables: Mapping[str, TableSummary], coverage: Coverage) -> str:
    """The tables, aligned, and below them the picture."""
    lines = [HEADER, *_lines(tables)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(
            cell.rjust(width) if 0 < at < 4 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([coverage_text(coverage, shutil.get_terminal_size().columns), "", *table])


def dataset_html(tables: Mapping[str, TableSummary], coverage: Coverage) -> str:
    """The same for a notebook."""
    head = "".join(f"<th>{name}</th>" for name in HEADER)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in _lines(tables))
    return f"<div>{coverage_svg(coverage)}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _lines(tables: Mapping[str, TableSummary]) -> list[tuple[str, ...]]:
    return [
        (name, f"{table.rows:,}", f"{table.files:,}", size(table.bytes), spans_of(table.covered, 2) or "none")
        for name, table in tables.items()
    ]
