"""Work of many parts that know nothing of each other, on a Ray cluster: a task for each, results as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray

from ampd_ray.actors.cluster import on_ray
from ampd_ray.actors.failures import domain_error
from ampd_ray.actors.placement import ray_nodes
from ampd_ray.node import places

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE_PER_CPU = 2  # the next one waits where the last one ends
MAX_RETRIES = 10  # of a part whose Ray node goes


def spread(call: Callable[[T], R], parts: Sequence[T], address: str, *, insecure: bool) -> Iterator[R]:
    """``call`` of each of ``parts``, in no order, on the cluster at ``address``, which has our package.

    Raises ``RayUnavailable`` and ``InsecureRay``, and what a call raises as an ``AmpdError``: ``call`` may be repeated.
    """
    with on_ray(address, insecure=insecure):
        task: Any = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(call)
        at_once = AT_ONCE_PER_CPU * max(1, int(places.cpus(ray_nodes())))
        waiting = iter(parts)
        running = [task.remote(part) for part, _ in zip(waiting, range(at_once), strict=False)]
        while running:
            done, running = ray.wait(running)
            running += [task.remote(part) for part, _ in zip(waiting, done, strict=False)]
            try:
                yield ray.get(done[0])
            except Exception as error:
                raise domain_error(error, "a task") from None
