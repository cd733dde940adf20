"""The garbage collector of an actor looks seldom, and never at what was there before."""

import gc
from collections.abc import Iterator

import pytest

from ampd_ray.actors.garbage import THRESHOLDS, spare_the_collector


@pytest.fixture
def collector_as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.usefixtures("collector_as_it_was")
def test_what_is_loaded_stays_and_the_rest_is_looked_at_seldom() -> None:
    kept: list[object] = []
    kept.append(kept)
    spare_the_collector()
    assert gc.get_threshold() == THRESHOLDS
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert not any(each is kept for each in gc.get_objects())
    later: list[object] = []
    assert any(each is later for each in gc.get_objects())


@pytest.mark.usefixtures("collector_as_it_was")
def test_what_nothing_refers_to_any_more_does_not_stay() -> None:
    class Gone:
        here = 0

        def __init__(self) -> None:
            self.itself = self
            Gone.here += 1

        def __del__(self) -> None:
            Gone.here -= 1

    gc.disable()
    try:
        Gone()
        assert Gone.here == 1
        spare_the_collector()
    finally:
        gc.enable()
    assert Gone.here == 0
