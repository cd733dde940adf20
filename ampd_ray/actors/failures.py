"""Ray's exceptions as errors of ours: the one table (architecture, section 6)."""

from __future__ import annotations

from ray import exceptions as ray_errors

from ampd_ray.errors import ActorLost, AmpdError, OutOfMemory, Unexpected

# Order matters: OutOfMemoryError and TaskCancelledError are RayErrors too, and RayTaskError mixes in its cause's type.
_LOST: tuple[tuple[type[Exception], type[AmpdError]], ...] = (
    (ray_errors.OutOfMemoryError, OutOfMemory),
    (ray_errors.TaskCancelledError, ActorLost),
    (ray_errors.ActorDiedError, ActorLost),
    (ray_errors.ActorUnavailableError, ActorLost),
    (ray_errors.ActorUnschedulableError, ActorLost),
    (ray_errors.OwnerDiedError, ActorLost),
    (ray_errors.ObjectLostError, ActorLost),
    (ray_errors.WorkerCrashedError, ActorLost),
    (ray_errors.NodeDiedError, ActorLost),
    (ray_errors.ObjectStoreFullError, OutOfMemory),
)


def domain_error(error: Exception, what: str) -> AmpdError:
    """What ``error``, raised by a call to the actor ``what``, means to a job."""
    for kind, ours in _LOST:
        if isinstance(error, kind):
            return ours(f"{what} was lost ({type(error).__name__})")
    if isinstance(error, ray_errors.RayTaskError):
        cause = error.cause
        if isinstance(cause, AmpdError):
            return cause
        return Unexpected.of(cause if isinstance(cause, BaseException) else error)
    if isinstance(error, AmpdError):
        return error
    return Unexpected.of(error)


def actor_is_gone(error: Exception) -> bool:
    """True if the actor itself has to be replaced, not only the call repeated."""
    return isinstance(
        error,
        ray_errors.ActorDiedError
        | ray_errors.ActorUnschedulableError
        | ray_errors.WorkerCrashedError
        | ray_errors.NodeDiedError
        | ray_errors.OutOfMemoryError,
    )
