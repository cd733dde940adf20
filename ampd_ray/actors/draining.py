"""Ray nodes that are about to go, as Ray knows them: its drain notice, read and given.

Ray places nothing on a node that drains. Whoever takes a machine away says so to Ray (the autoscaler,
``ray drain-node``); the clouds' notice, which only the machine itself can read, we pass on (``actors/machine.py``).
All that reads Ray's own interface for it is in this module, since that interface is not a public one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from ampd_ray.clouds.apart import apart

logger = logging.getLogger(__name__)

LOOK_EVERY_SECS = 1.0
ANSWER_SECS = 5.0
PREEMPTION = 2  # DRAIN_NODE_REASON_PREEMPTION of Ray's autoscaler.proto


@dataclass(frozen=True)
class Departure:
    """A Ray node that goes in ``secs`` seconds; None: nobody says when."""

    ray_node: str
    secs: float | None


async def departures() -> AsyncIterator[Departure]:
    """Each Ray node that starts to drain, and again if its time becomes shorter. Never ends."""
    known: dict[str, int] = {}
    while True:
        try:
            now = await apart(draining)
        except Exception as error:  # the cluster's head is away, which says nothing of its nodes
            logger.debug("Ray does not say which nodes drain", extra={"error": error})
        else:
            for departure in news(known, now, time.time()):
                yield departure
            known = now
        await asyncio.sleep(LOOK_EVERY_SECS)


def news(before: Mapping[str, int], now: Mapping[str, int], unix_secs: float) -> list[Departure]:
    """What has changed for the worse, from what :func:`draining` said before to what it says now."""
    return [
        Departure(node, max(0.0, deadline / 1000 - unix_secs) if deadline else None)
        for node, deadline in now.items()
        if node not in before or (deadline and (not before[node] or deadline < before[node]))
    ]


def draining() -> dict[str, int]:
    """The Ray nodes that are about to go, and when, in Unix milliseconds; 0: nobody says. Raises what Ray raises."""
    found: dict[str, int] = _gcs().get_draining_nodes(timeout=ANSWER_SECS)
    return found


def drain(ray_node: str, secs: float, why: str) -> None:
    """Tell all of the cluster that a Ray node goes in so many seconds. Raises what Ray raises."""
    _gcs().drain_node(ray_node, PREEMPTION, why, int((time.time() + secs) * 1000))


def _gcs() -> Any:
    worker: Any = ray._private.worker.global_worker  # noqa: SLF001  (Ray's libraries do the same)
    return worker.gcs_client
