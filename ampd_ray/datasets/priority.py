"""How much of its worker a job gets while others of that worker want some as well."""

from __future__ import annotations

from typing import Final

PRIORITY: Final = 10
"""Of a job that was given none. One of twice the priority has twice the extractors."""
MOST: Final = 100
"""The highest; the lowest is 1."""
