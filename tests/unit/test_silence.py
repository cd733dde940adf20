"""When an actor that does not answer counts as lost."""

from __future__ import annotations

from ampd_ray.actors.silence import TURNS, Silence


def test_an_actor_is_lost_after_so_many_turns_without_an_answer() -> None:
    silence = Silence()
    assert [silence.turn(answered=False) for _ in range(TURNS)] == [False] * (TURNS - 1) + [True]


def test_an_answer_makes_up_for_all_silence_before_it() -> None:
    silence = Silence()
    for _ in range(3):
        assert not any(silence.turn(answered=False) for _ in range(TURNS - 1))
        assert not silence.turn(answered=True)


def test_one_that_answers_is_never_lost() -> None:
    silence = Silence()
    assert not any(silence.turn(answered=True) for _ in range(100))
