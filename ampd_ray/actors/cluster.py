"""The driver of one worker: a Ray to run on, the coordinator actor on it, signals, the exit code."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray._common.tls_utils import load_certs_from_env
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from ampd_ray.actors import door, package, signals
from ampd_ray.actors.coordinator import CoordinatorActor
from ampd_ray.actors.driver_watch import Watched
from ampd_ray.actors.failures import domain_error
from ampd_ray.actors.placement import at, here, ray_nodes
from ampd_ray.config import Settings, inherited, seal
from ampd_ray.errors import ActorLost, AmpdError, RayUnavailable
from ampd_ray.node import places
from ampd_ray.node.ending import Ending
from ampd_ray.node.places import RayNode
from ampd_ray.node.sizes import LOCAL_CPUS, Sizes

logger = logging.getLogger(__name__)

LOCAL_OBJECT_STORE_BYTES = 1 << 30
SIGNAL_CHECK_SECS = 0.2
LAST_LINES_SECS = 0.5  # what the coordinator logs last still has to come through Ray to our standard error
NAMESPACE = "ampd-ray"
ASKED = "asked to end: what is open is committed, then Ray ends; asked again, it ends at once"
ASKED_AGAIN = "asked to end again: ending at once"
HALTED = "%s did not end %s: it is killed, and its leases run out"
CALLS = 100


def run_worker(settings: Settings, node_id: str, info: Mapping[str, str], address: str | None = None) -> int:
    """Run one Amp node until it is drained (SIGTERM, SIGINT) or ends by itself; the exit code.

    ``address`` names the cluster to join, ``auto`` the one on this machine; None starts a Ray of its own on
    loopback, whose processes have our environment. Raises an ``AmpdError`` if the node cannot start.
    """
    logger.info("Ray starts, then the node; that takes some seconds", extra={"ray": address or "of its own"})
    if address is None:
        os.environ.update(inherited(settings))
        settings = _anywhere(settings)
    with signals.restored(), on_ray(address, insecure=settings.ampd_ray.insecure_ray):
        received = signals.noted()
        nodes = ray_nodes()
        home = places.home(nodes, here(), node_id)
        if home not in [node.id for node in nodes]:
            raise RayUnavailable("this Ray node is about to go: start the worker on another one")
        coordinator = start_coordinator(settings, node_id, info, nodes, home, alone=address is None)
        ending = Ending(settings.ampd_ray.drain_timeout_secs)
        return _until_ended(coordinator, coordinator.run.remote(), received, ending)


def _anywhere(settings: Settings) -> Settings:
    """A Ray of our own is one machine, which has none of the resources and labels of a cluster's."""
    ours = settings.ampd_ray.model_copy(update={"extractor_resources": {}, "extractor_labels": {}})
    return settings.model_copy(update={"ampd_ray": ours})


def _until_ended(coordinator: Any, running: Any, received: Sequence[signal.Signals], ending: Ending) -> int:
    """Pass signals on until ``running`` has ended; the exit code, 1 for a coordinator that had to be killed."""
    while True:
        done, _ = ray.wait([running], timeout=SIGNAL_CHECK_SECS)
        if done:
            time.sleep(LAST_LINES_SECS)
            return _exit_code(running)
        if time.monotonic() >= ending.at_last:
            logger.error(HALTED, "the coordinator", ending)
            ray.kill(coordinator)
            return 1
        for _ in heard(received, ending):
            coordinator.ask_drain.remote()


def heard(received: Sequence[signal.Signals], ending: Ending) -> Iterator[None]:
    """One turn for each signal that was not heard yet; those who drain are to be asked once more in each."""
    while ending.asked < len(received):
        name = received[ending.asked].name
        ending.ask(time.monotonic())
        logger.info(ASKED if ending.asked == 1 else ASKED_AGAIN, extra={"signal": name})
        yield


def outcome(running: Any) -> int:
    """The exit code of a coordinator that has ended. Raises an ``AmpdError`` if it could not start, or was lost."""
    try:
        code: int = ray.get(running)
    except Exception as error:
        raise package.missing(error) or domain_error(error, "the coordinator") from None
    return code


def _exit_code(running: Any) -> int:
    try:
        return outcome(running)
    except ActorLost:
        raise AmpdError(
            "the coordinator actor died; nothing is lost. Start the worker again with the same node id to resume."
        ) from None


def start_coordinator(
    settings: Settings, node_id: str, info: Mapping[str, str], nodes: Sequence[RayNode], home: str, *, alone: bool
) -> Any:
    """The coordinator of an Amp node, on the Ray node ``home`` of ``nodes``; ``alone`` on a Ray of our own."""
    sizes = Sizes.of(places.cpus(nodes), places.cpus_for_writers(nodes, home), settings.ampd_ray)
    if not alone:
        sizes = sizes.elastic(settings.ampd_ray)
    driver = Watched.of(os.getpid()) if home == here() else None
    as_actor: Any = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
    actor = as_actor(CoordinatorActor).options(max_concurrency=CALLS, **at(home))
    return actor.remote(seal(settings), node_id, dict(info), sizes, driver)


@contextmanager
def on_ray(address: str | None, *, insecure: bool = False) -> Iterator[None]:
    """Be a driver of the cluster at ``address``; None: of a Ray of our own.

    Raises ``RayUnavailable``, and ``InsecureRay`` unless it asks for a token, stays on loopback, or ``insecure`` is
    meant.
    """
    try:
        try:
            if address is None:
                _start_ray(insecure)
            else:
                found = canonicalize_bootstrap_address_or_die(address)
                _agree_on_tokens(found, insecure)
                ray.init(address=found, logging_level=logging.WARNING, namespace=NAMESPACE)
        except AmpdError:
            raise
        except Exception as error:  # of no kind where a process of Ray's is too slow to start
            what = "Ray does not start" if address is None else f"no Ray cluster takes us at {address!r}"
            raise RayUnavailable(f"{what}: {type(error).__name__}: {str(error).splitlines()[0][:300]}") from error
        yield
    finally:
        ray.shutdown(wait_for_processes=True)


def _agree_on_tokens(address: str, insecure: bool) -> None:
    """Ask for tokens if the cluster at ``address`` does, and only then: else it could not call its driver back."""
    tokens = AuthenticationTokenLoader.instance()
    ours = tokens.get_token_for_http_header(ignore_auth_mode=True)
    tokens.reset_cache()  # with a token at hand a process asks for it, whatever its mode
    tls = os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")
    certificates = load_certs_from_env() if tls else None  # type: ignore[no-untyped-call]
    asks = door.check(address, ours, certificates, insecure=insecure)
    os.environ["RAY_AUTH_MODE"] = "token" if asks else "disabled"
    Config.initialize("")  # which is when Ray reads it


def _start_ray(insecure: bool) -> None:
    """A Ray of our own, on loopback, and with tokens: unless the environment says otherwise, which may be too much."""
    ray.init(
        address="local",
        num_cpus=max(LOCAL_CPUS, os.cpu_count() or 1),
        include_dashboard=False,
        object_store_memory=LOCAL_OBJECT_STORE_BYTES,
        logging_level=logging.WARNING,
        namespace=NAMESPACE,
    )
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        door.check(ray.get_runtime_context().gcs_address, {}, insecure=insecure)
