"""The driver of a worker for every stable Ray node: a coordinator actor on each, as :mod:`ampd_ray.node.fleet` says."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import exceptions as ray_errors

from ampd_ray.actors import signals
from ampd_ray.actors.cluster import (
    HALTED,
    LAST_LINES_SECS,
    SIGNAL_CHECK_SECS,
    heard,
    on_ray,
    outcome,
    start_coordinator,
)
from ampd_ray.actors.placement import ray_nodes
from ampd_ray.config import Settings
from ampd_ray.errors import AmpdError, RayUnavailable
from ampd_ray.node.ending import Ending
from ampd_ray.node.fleet import Fleet, Start
from ampd_ray.node.places import STABLE, RayNode

logger = logging.getLogger(__name__)

LOOK_SECS = 1.0
NONE_YET = (
    "no Ray node of the cluster is stable yet; a coordinator comes to each that is, which is one that was started with "
    "`ray start --resources '{\"%s\": 1}'`"
)
AWAY = "the head of the Ray cluster does not answer: Ray nodes that join or leave are not seen"
GONE = "the Ray cluster is gone, and all of its workers; nothing is lost. Start this again on one that is there."
CLASHES = "several Ray nodes have a name that gives %s: one of them gets a coordinator; see `ray start --node-name`"


def run_fleet(settings: Settings, prefix: str, info: Mapping[str, str], address: str) -> int:
    """Run an Amp node on every stable Ray node of the cluster at ``address`` until all are drained; the exit code.

    Raises ``InsecureRay``, and ``RayUnavailable`` also later. What goes wrong with one node is logged, and the
    node started again.
    """
    logger.info("the Ray cluster is joined, then each stable node gets a worker", extra={"ray": address})
    with signals.restored(), on_ray(address, insecure=settings.ampd_ray.insecure_ray):
        return _Driver(settings, prefix, info).run()


class _Driver:
    """Carries out what the fleet decides. ``_running`` has the run of each coordinator, its Node ID and its actor."""

    def __init__(self, settings: Settings, prefix: str, info: Mapping[str, str]):
        self._settings = settings
        self._info = info
        self._fleet = Fleet(prefix)
        self._ending = Ending(settings.ampd_ray.drain_timeout_secs)
        self._received = signals.noted()
        self._running: dict[Any, tuple[str, Any]] = {}
        self._look_at = 0.0
        self._said: list[str] = []

    def run(self) -> int:
        """Until all are drained; 1 if one was cut short or lost meanwhile."""
        while not self._fleet.over:
            self._hear_of_ends()
            for _ in heard(self._received, self._ending):
                self._drain()
            if time.monotonic() >= self._ending.at_last:
                self._halt()
            if time.monotonic() >= self._look_at:
                self._look()
        time.sleep(LAST_LINES_SECS)
        return self._fleet.exit_code

    def _hear_of_ends(self) -> None:
        if not self._running:  # Ray does not wait for nothing
            time.sleep(SIGNAL_CHECK_SECS)
            return
        done, _ = ray.wait(list(self._running), timeout=SIGNAL_CHECK_SECS)
        for run in done:
            node_id, coordinator = self._running.pop(run)
            self._fleet.ended(node_id, _code(node_id, run), time.monotonic())
            with suppress(ray_errors.RayError):  # it is gone, or Ray is
                ray.kill(coordinator)

    def _drain(self) -> None:
        self._fleet.drain()
        for _, coordinator in self._running.values():
            coordinator.ask_drain.remote()

    def _halt(self) -> None:
        for node_id, coordinator in self._running.values():
            logger.error(HALTED, node_id, self._ending)
            ray.kill(coordinator)
            self._fleet.ended(node_id, 1, time.monotonic())
        self._running.clear()

    def _look(self) -> None:
        """See which Ray nodes there are, and start what they want."""
        try:
            nodes = ray_nodes()
        except ray_errors.RayError as error:
            if not self._running:
                raise RayUnavailable(GONE) from error
            self._say([AWAY])
        else:
            self._say([NONE_YET % STABLE] if not any(node.stable for node in nodes) else self._clashes(nodes))
            for order in self._fleet.seen(nodes, time.monotonic()):
                self._start(order, nodes)
        self._look_at = time.monotonic() + LOOK_SECS

    def _clashes(self, nodes: Sequence[RayNode]) -> list[str]:
        return [CLASHES % node_id for node_id in self._fleet.clashes(nodes)]

    def _say(self, warnings: list[str]) -> None:
        """Once, for as long as it holds."""
        for warning in warnings:
            if warning not in self._said:
                logger.warning(warning)
        self._said = warnings

    def _start(self, order: Start, nodes: Sequence[RayNode]) -> None:
        logger.info("a coordinator starts", extra={"node_id": order.node_id, "ray_node": order.ray_node})
        coordinator = start_coordinator(self._settings, order.node_id, self._info, nodes, order.ray_node, alone=False)
        self._running[coordinator.run.remote()] = order.node_id, coordinator


def _code(node_id: str, run: Any) -> int:
    try:
        code = outcome(run)
    except AmpdError as error:
        logger.warning("%s has ended: %s", node_id, error)
        return 1
    logger.info("%s has ended", node_id, extra={"code": code})
    return code
