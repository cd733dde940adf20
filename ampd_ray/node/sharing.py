"""Who gets how much of what several want: weighted max-min fairness (pure).

Jobs of a node share its extractors so, by their priorities, and workers of a cluster its CPUs. Nobody gets more than
it asked for; what one does not need is shared by the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class Ask:
    """So many are wanted; of two who get less than that, one of twice the ``weight`` gets twice as many."""

    wanted: int
    weight: float = 1.0


def shares(asked: Mapping[K, Ask], total: int) -> dict[K, int]:
    """How many each gets of ``total``; one at least who asked for any, so that the sum may be more."""
    given = {key: min(1, ask.wanted) for key, ask in asked.items()}
    for _ in range(total - sum(given.values())):
        lacking = [key for key, ask in asked.items() if given[key] < ask.wanted]
        if not lacking:
            break
        given[min(lacking, key=lambda key: (given[key] + 1) / asked[key].weight)] += 1
    return given


@dataclass(frozen=True)
class Needs:
    """What one worker of a cluster told: CPUs its extractors ``have`` and ``want``, how many of them ask a provider."""

    have: int = 0
    want: int = 0
    providers: Mapping[str, int] = field(default_factory=dict)


def allowed(ours: Needs, others: Mapping[str, Needs]) -> int | None:
    """How many CPUs we may keep; None: as many as we want.

    Only who has more than a fair part of what there is gives some up, while another lacks some. All others go on
    asking: it is what they lack that makes the cluster grow.
    """
    if not any(needs.want > needs.have for needs in others.values()):
        return None
    told = {"": ours, **{f"of {name}": needs for name, needs in others.items()}}
    total = sum(needs.have for needs in told.values())
    fair = shares({name: Ask(max(needs.have, needs.want)) for name, needs in told.items()}, total)[""]
    return fair if ours.have > fair else None
