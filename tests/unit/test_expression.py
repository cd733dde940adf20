"""Block ranges as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.chain.expression import parse_range
from ampd_ray.chain.ranges import Span
from ampd_ray.errors import InvalidRange

HEAD = 20_000_000


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("15M:16M", 15_000_000, 15_999_999),
        ("15M:+1000", 15_000_000, 15_000_999),
        ("-1000:", HEAD - 999, HEAD),
        ("-1000:latest", HEAD - 999, HEAD),
        ("-1000:7000", 6000, 6999),
        ("-1K:1K", 0, 999),
        ("18_000_000:18_000_100", 18_000_000, 18_000_099),
        ("18M:latest", 18_000_000, HEAD),
        ("18M:LATEST", 18_000_000, HEAD),
        ("18M:", 18_000_000, HEAD),
        (":700", 0, 699),
        (":+700", 0, 699),
        (":latest", 0, HEAD),
        ("15.5M:15.501m", 15_500_000, 15_500_999),
        ("2k:+0.5k", 2000, 2499),
        ("0.000001B:+1", 1000, 1000),
        ("5", 5, 5),
        ("18M", 18_000_000, 18_000_000),
        (" 1 : 2 ", 1, 1),
        ("0:1", 0, 0),
        ("20M:+1", HEAD, HEAD),
    ],
)
def test_forms(text: str, start: int, end: int) -> None:
    assert parse_range(text).resolve(HEAD) == Span(start, end)


@pytest.mark.parametrize(
    ("text", "relative"),
    [("1:2", False), ("-5:9", False), ("5", False), ("1:", True), ("1:latest", True), ("-9:", True)],
)
def test_only_ranges_that_end_at_the_head_are_relative(text: str, relative: bool) -> None:
    assert parse_range(text).is_relative is relative
    assert str(parse_range(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not START:END"),
        (":", "not START:END"),
        ("latest", "not START:END"),
        (f"{2**63 - 1}", "above the highest possible block number"),
        (f"1:+{2**63 - 1}", "above the highest possible block number"),
        ("1:2:3", "not START:END"),
        ("1-2", "not START:END"),
        ("abc:def", "'def' is not a block number"),
        ("latest:5", "'latest' is not a block number"),
        ("1:-5", "'-5' is not a block number"),
        ("+5:10", "'\\+5' is not a block number"),
        ("1:++5", "'\\+5' is not a block number"),
        ("0x10:0x20", "'0x20' is not a block number"),
        ("1e6:2e6", "'2e6' is not a block number"),
        ("1:2T", "'2T' is not a block number"),
        ("١:٢", "'٢' is not a block number"),
        ("1:+", "a block number is missing"),
        ("-:5", "a block number is missing"),
        ("1.5:3", "1.5 is not a whole number"),
        ("0:1.0000000000000000000000000000000000001M", "not a whole number"),
        ("0:9_223_372_036_854_775_809", "above the highest possible"),
        ("0:99999999999B", "above the highest possible"),
        ("7:7", "the end is excluded. Write 7:8 for one block"),
        ("7:+0", "holds no block"),
        ("16M:15M", "the end 15000000 lies before the start 16000000. Write 15000000:16000000"),
        ("-0:", "holds no block"),
        ("-5:+5", "backwards and forwards"),
        ("-10:5", "no 10 blocks before block 5. Write 0:5"),
        ("1" * 10_000 + ":", "too long"),
    ],
)
def test_what_is_wrong_is_named_with_a_way_out(text: str, why: str) -> None:
    with pytest.raises(InvalidRange, match=why) as caught:
        parse_range(text)
    assert repr(text[:100])[:-1] in str(caught.value)
    assert "Write " in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10:20", "block 19 is beyond the head, 15. Write 10:latest"),
        ("10:+100", "block 109 is beyond the head"),
        ("18:latest", "block 18 is beyond the head: the chain ends at block 15. Wait until"),
        ("-100:", "asks for 100 blocks and the chain has 16. Write 0:16"),
        ("-5:30", "block 25 is beyond the head: the chain ends at block 15"),
    ],
)
def test_blocks_that_the_chain_does_not_have_yet(text: str, why: str) -> None:
    with pytest.raises(InvalidRange, match=why):
        parse_range(text).resolve(15)


@given(st.text(alphabet="0123456789_.:+-kKmMBlatest ", max_size=12))
def test_any_text_gives_a_span_of_the_chain_or_an_invalid_range(text: str) -> None:
    try:
        span = parse_range(text).resolve(1_000_000)
    except InvalidRange:
        return
    assert 0 <= span.start <= span.end <= 1_000_000


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_plain_numbers_mean_themselves(start: int, count: int) -> None:
    want = Span(start, start + count - 1)
    for text in (f"{start}:{start + count}", f"{start:_}:+{count}", f"-{count}:{start + count}"):
        assert parse_range(text).resolve(2 * 10**9) == want


@pytest.mark.parametrize(
    ("text", "last", "span"),
    [
        ("5:10", None, Span(5, 9)),
        ("5:10", 3, Span(5, 9)),
        ("-5:", 99, Span(95, 99)),
        ("-500:", 99, Span(0, 99)),
        ("-5:", None, None),
        ("90:", 99, Span(90, 99)),
        (":latest", 99, Span(0, 99)),
        ("100:", 99, None),
        ("7", 3, Span(7, 7)),
    ],
)
def test_a_range_of_a_dataset_takes_what_is_there_and_misses_nothing(
    text: str, last: int | None, span: Span | None
) -> None:
    assert parse_range(text).reached(last) == span
