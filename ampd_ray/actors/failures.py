"""Ray's exceptions as errors of ours: the one table (architecture, section 6)."""

from __future__ import annotations

import logging

from ray import exceptions as ray_errors

from ampd_ray.errors import ActorLost, AmpdError, OutOfMemory, RowsLost, Unexpected

logger = logging.getLogger(__name__)

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
    (ray_errors.OutOfDiskError, OutOfMemory),  # the object store is full, and so is the disk that it spills to
)


def domain_error(error: Exception, what: str) -> AmpdError:
    """What ``error``, raised by a call to the actor ``what``, means to a job."""
    from_within = isinstance(error, ray_errors.RayTaskError) and not isinstance(error, ray_errors.TaskCancelledError)
    for kind, ours in _LOST:
        if isinstance(error, kind):
            if from_within:  # no code of ours raises Ray's errors: it got no arguments
                return RowsLost(f"{what} got no rows ({kind.__name__})", no_room=ours is OutOfMemory)
            logger.info("%s was lost", what, extra={"error": error})
            return ours(f"{what} was lost ({type(error).__name__})")
    cause = error.cause if isinstance(error, ray_errors.RayTaskError) else error
    if isinstance(cause, AmpdError):
        return cause
    if isinstance(cause, MemoryError):  # the process got no more, and lives
        logger.info("%s ran out of memory", what, extra={"error": type(cause).__name__})
        return OutOfMemory(f"{what} ran out of memory ({type(cause).__name__})")
    logger.error("%s failed unexpectedly", what, exc_info=error)
    return Unexpected.of(cause)


def actor_is_gone(error: BaseException) -> bool:
    """True if the actor itself has to be replaced, not only the call repeated.

    Of an error that comes *from* it the cause may be the death of another one, whose rows it was to read.
    """
    return not isinstance(error, ray_errors.RayTaskError) and isinstance(
        error,
        ray_errors.ActorDiedError
        | ray_errors.ActorUnavailableError
        | ray_errors.ActorUnschedulableError
        | ray_errors.WorkerCrashedError
        | ray_errors.NodeDiedError
        | ray_errors.OutOfMemoryError,
    )
