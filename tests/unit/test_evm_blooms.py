"""The bloom of spelled logs is the bloom of their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.datasets.evm.blooms import NO_BLOOM, spelled_bloom
from ampd_ray.datasets.evm.hashing import bloom_of

entries = st.one_of(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32))


@settings(deadline=None)
@given(st.lists(entries, max_size=300), st.sampled_from([str, str.upper]))
def test_the_bloom_of_spelled_logs_is_that_of_their_bytes(values: list[bytes], case: type[str]) -> None:
    assert spelled_bloom([case("0x" + value.hex()) for value in values]) == bloom_of(values)


def test_no_logs_make_no_bloom() -> None:
    assert "0x" + spelled_bloom([]).hex() == NO_BLOOM


@pytest.mark.parametrize("bad", ["0xzz", "0xabc", "zzzz"])
def test_what_is_not_hex_is_an_error(bad: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        spelled_bloom([bad])
