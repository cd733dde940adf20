"""What is left of a backfill, in a few lines: the same words on a terminal and in a notebook."""

from __future__ import annotations

from dataclasses import replace

from ampd_ray.chain.ranges import Span
from ampd_ray.client.displays.summary import summary_text
from ampd_ray.client.summary import Summary

WHOLE = Summary("_/devnet", "devnet", 0, 1999, 2000, {"blocks": 2000, "logs": 7343}, 6, 2_241_085, 0, seconds=62.0)


def test_a_complete_range_is_told_in_seven_lines() -> None:
    assert str(WHOLE).splitlines() == [
        "dataset   _/devnet (devnet)",
        "blocks    2,000 of 2,000 (0 to 1,999)",
        "rows      2,000 blocks, 7,343 logs",
        "files     6, 2.2 MB",
        "retries   0",
        "holes     none",
        "time      1 min 02 s",
    ]


def test_holes_are_listed_up_to_ten_with_what_was_quarantined() -> None:
    holes = [Span(block, block) for block in range(0, 24, 2)]
    told = summary_text(replace(WHOLE, blocks=1988, holes=holes, quarantined=3), time="1 s", before=5, data_dir="/data")
    assert "blocks    1,988 of 2,000 (0 to 1,999); 5 were there before" in told
    assert "holes     0, 2, 4, 6, 8, 10, 12, 14, 16, 18 and 2 more; 3 quarantined" in told
    assert "files     6, 2.2 MB, in /data" in told


def test_a_range_without_a_block_yet_has_no_bounds() -> None:
    assert "blocks    0 of 0\n" in str(replace(WHOLE, end=-1, blocks=0))
