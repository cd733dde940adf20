"""Named SQL blocks: found, told apart, and refused when they say too little."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampd_ray.metadb.queries import load, parse

TWO = """-- name: first
-- Say something
-- over two lines.
select 1;

-- name: second
-- Say %(what)s.
select %(what)s::text -- name: not one
"""


def test_blocks_are_found_by_name() -> None:
    queries = parse(TWO, "x.sql")
    assert list(queries) == ["first", "second"]
    assert queries["first"] == b"select 1;"
    assert queries["first"].sentence == "Say something over two lines."
    assert queries["second"] == b"select %(what)s::text -- name: not one"
    assert "second" in repr(queries["second"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("select 1;\n" + TWO, "before the first"),
        (TWO + TWO, "two blocks are named first"),
        ("-- name: mute\nselect 1;", "block mute needs a sentence"),
        ("-- name: empty\n-- Nothing.\n", "block empty needs a sentence and a statement"),
    ],
)
def test_a_bad_file_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text, "x.sql")


def test_the_file_beside_a_module_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "verbs.sql").write_text(TWO)
    assert set(load(str(tmp_path / "verbs.py"))) == {"first", "second"}
