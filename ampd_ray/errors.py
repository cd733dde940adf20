"""Errors that carry their handling.

Every error that this package raises on purpose is an :class:`AmpdError`. Its ``code`` names the case for
people and programs, its ``handling`` says what the caller does about it (``spec/metadata-db.md`` 5.7), and its
``details`` hold the facts (block, provider host, table) without secrets. What is not an ``AmpdError`` is a bug
and handled as fatal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

MAX_TEXT_CHARS = 8192


class Handling(StrEnum):
    """What to do about an error: the classes of ``spec/metadata-db.md`` 5.7."""

    TRANSIENT = "transient"  # try again until it passes
    BOUNDED = "bounded"  # try again a few times, then fail
    FATAL = "fatal"  # trying again cannot help
    FENCED = "fenced"  # somebody else owns this now: stop, write nothing


class AmpdError(Exception):
    """An expected failure.

    ``message`` is a sentence for a person: it names the thing and the way out, and holds no secret.
    ``details`` are JSON-able facts for logs and for the job's error JSON. Both may quote strangers, so their texts
    are cut, and lose what a terminal or a database would trip over.
    """

    code: ClassVar[str] = "INTERNAL"
    handling: ClassVar[Handling] = Handling.FATAL
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: Any) -> None:
        self.message = _printable(message)
        super().__init__(self.message)
        self.details: dict[str, Any] = {
            name: _printable(fact) if isinstance(fact, str) else fact for name, fact in details.items()
        }

    @property
    def retryable(self) -> bool:
        """True if the same operation may succeed later."""
        return self.handling in (Handling.TRANSIENT, Handling.BOUNDED)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.details))


def _printable(text: str) -> str:
    if text.isprintable() and len(text) <= MAX_TEXT_CHARS:
        return text
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text[:MAX_TEXT_CHARS])


def _rebuild(cls: type[AmpdError], message: str, details: dict[str, Any]) -> AmpdError:
    return cls(message, **details)


def chain_of(error: BaseException) -> list[str]:
    """The messages of ``error`` and its causes, outermost first; secrets never reach an error's message."""
    messages: list[str] = []
    current: BaseException | None = error
    while current is not None and len(messages) < 16:
        text = str(current) or type(current).__name__
        messages.append(text if isinstance(current, AmpdError) else f"{type(current).__name__}: {text}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return messages


# -- the command line and the configuration -------------------------------------------------------------------


class UsageError(AmpdError):
    """The command line is wrong."""

    code = "USAGE"
    exit_code = 2


class ConfigError(AmpdError):
    """The configuration is wrong; the message lists every problem."""

    code = "INVALID_CONFIG"


class InvalidName(AmpdError):
    """A node id, namespace, dataset, provider or table name breaks its rule."""

    code = "INVALID_NAME"
    exit_code = 2


class InvalidRange(AmpdError):
    """A block range cannot be parsed, is empty or reversed."""

    code = "INVALID_RANGE"
    exit_code = 2


class BeyondHead(InvalidRange):
    """A block range is well formed, and the chain does not have all of its blocks yet."""

    code = "BEYOND_HEAD"
    exit_code = 1


class Interrupted(AmpdError):
    """Somebody pressed Ctrl-C."""

    code = "INTERRUPTED"
    exit_code = 130  # as shells have it


class Stopped(AmpdError):
    """The job was stopped before it was complete, by Ctrl-C or another command; its complete blocks are committed."""

    code = "STOPPED"


class StillRunning(AmpdError):
    """The job has not ended within the time that it was given."""

    code = "STILL_RUNNING"


class NothingThere(AmpdError):
    """None of the blocks that were asked for has been extracted."""

    code = "NOTHING_THERE"


class NotFound(AmpdError):
    """The named job, dataset, provider or worker does not exist."""

    code = "NOT_FOUND"


class SessionClosed(AmpdError):
    """A client's session was closed, or belongs to the process that forked this one: make another."""

    code = "SESSION_CLOSED"


class InvalidQuery(AmpdError):
    """A person's SQL cannot be run."""

    code = "INVALID_QUERY"
    exit_code = 2


class ExtraMissing(AmpdError):
    """A library that only an extra of the package installs is not there."""

    code = "EXTRA_MISSING"


# -- identity ---------------------------------------------------------------------------------------------------


class NodeInUse(AmpdError):
    """Another live process holds this Node ID."""

    code = "NODE_IN_USE"
    exit_code = 3


class SoloFailed(AmpdError):
    """A solo environment did not come up, or has ended under a session that uses it."""

    code = "SOLO_FAILED"


class Fenced(AmpdError):
    """A lease or the node was taken by somebody else."""

    code = "FENCED"
    handling = Handling.FENCED
    exit_code = 3


class LeaseHeld(AmpdError):
    """Somebody else holds a lease that we want, for ``for_secs`` yet unless it is renewed: wait."""

    code = "LEASE_HELD"
    handling = Handling.TRANSIENT

    @property
    def for_secs(self) -> float:
        """How long the lease lasts yet."""
        return float(self.details["for_secs"])


class TakeoverLoop(AmpdError):
    """Each node that took the job over died before it committed anything."""

    code = "TAKEOVER_LOOP"
    handling = Handling.BOUNDED


# -- the metadata database --------------------------------------------------------------------------------------


class DatabaseUnavailable(AmpdError):
    """The database did not answer, or answered with a transient error (``spec/metadata-db.md`` 1.8)."""

    code = "DATABASE_UNAVAILABLE"
    handling = Handling.TRANSIENT


class CommitUnknown(DatabaseUnavailable):
    """The connection broke during COMMIT: look before trying again (``spec/metadata-db.md`` 1.9)."""

    code = "COMMIT_UNKNOWN"


class DatabaseReadOnly(DatabaseUnavailable):
    """The session cannot write, as on a server that is the primary no more: another one may find the new primary."""

    code = "DATABASE_READ_ONLY"


class DatabaseRefused(AmpdError):
    """No such database or user, a wrong password, a lacking right, a host that is not proved: no use to try again."""

    code = "DATABASE_REFUSED"


class DatabaseFault(AmpdError):
    """A statement failed for a reason that trying again does not cure."""

    code = "DATABASE_FAULT"


class SchemaMismatch(AmpdError):
    """The database is not migrated, or not of a version that we know; the message lists the differences."""

    code = "SCHEMA_MISMATCH"


class NotUtc(AmpdError):
    """The session's time zone is not UTC (``spec/metadata-db.md`` 1.2)."""

    code = "DATABASE_NOT_UTC"


class JobConflict(AmpdError):
    """The job is active with another descriptor, or not in a state that allows the request."""

    code = "ACTIVE_JOB_CONFLICT"


class WorkerNotAvailable(AmpdError):
    """No live worker matches the selector."""

    code = "WORKER_NOT_AVAILABLE"


class SchedulerError(AmpdError):
    """No worker is alive at all."""

    code = "SCHEDULER_ERROR"


class Overlap(AmpdError):
    """Somebody committed these blocks first: drop ours and plan again."""

    code = "OVERLAP"
    handling = Handling.TRANSIENT


# -- providers --------------------------------------------------------------------------------------------------


class ProviderError(AmpdError):
    """A JSON-RPC provider failed. ``details`` carry ``provider``, ``host`` and, where known, ``block``."""

    code = "RPC_ERROR"
    handling = Handling.BOUNDED


class ProviderUnreachable(ProviderError):
    """Connection refused, reset or timed out, HTTP 408/425/5xx, or -32603."""

    code = "RPC_UNREACHABLE"
    handling = Handling.TRANSIENT


class RateLimited(ProviderError):
    """HTTP 429 or its JSON-RPC spellings; ``details["retry_after"]`` in seconds where the provider said so."""

    code = "RPC_RATE_LIMITED"
    handling = Handling.TRANSIENT


class ResponseTooLarge(ProviderError):
    """The batch or its answer is too large: ask for less at once."""

    code = "RPC_TOO_LARGE"


class ProviderRefused(ProviderError):
    """HTTP 401 or 403: the credentials do not work."""

    code = "RPC_REFUSED"


class MethodMissing(ProviderError):
    """-32601: the provider does not have this method."""

    code = "RPC_METHOD_MISSING"


class MalformedResponse(ProviderError):
    """HTML, truncated or otherwise wrong JSON, wrong or missing ids."""

    code = "RPC_MALFORMED"


class BlockUnavailable(ProviderError):
    """``null`` for a block or its receipts."""

    code = "RPC_BLOCK_UNAVAILABLE"


class ReorgDuringFetch(ProviderError):
    """A block and its receipts come from two branches: fetch both again."""

    code = "RPC_REORG_DURING_FETCH"
    handling = Handling.TRANSIENT


class DataFault(ProviderError):
    """A block or its receipts contradict themselves (``spec/data.md`` 2.3), or are no block or receipts at all."""

    code = "DATA_FAULT"
    ADVICE: ClassVar[str] = (
        "Ask another provider first. Only where all answer alike, since the chain's own rules differ from Ethereum's: "
        'integrity = "basic" under [ampd_ray] in the provider\'s file checks less, and what is wrong goes into the '
        "data."
    )


class WrongChain(AmpdError):
    """The provider serves another chain than the dataset's network."""

    code = "WRONG_CHAIN"


def wrong_chain(provider: str, network: str, found: int | None, expected: int, host: str | None = None) -> WrongChain:
    """A provider of another chain than the network is."""
    return WrongChain(
        f"provider {provider}{f' at {host}' if host else ''} serves chain {found}, but {network} is chain {expected}. "
        "Correct the network or the url in its file, or [ampd_ray.networks] in the configuration.",
        provider=provider,
        network=network,
        chain_id=found,
        **({"host": host} if host else {}),
    )


class ProviderMissing(AmpdError):
    """No usable provider for this kind and network."""

    code = "PROVIDER_NOT_FOUND"
    handling = Handling.BOUNDED


class ValueOverflow(AmpdError):
    """A value does not fit its column (``spec/data.md`` 1.6)."""

    code = "VALUE_OVERFLOW"


class Unverifiable(AmpdError):
    """A block can only be verified in part, and the configuration wants all of it (``spec/data.md`` 9.4)."""

    code = "UNVERIFIABLE"


# -- stores and files -------------------------------------------------------------------------------------------


class StoreError(AmpdError):
    """A data, manifest or provider directory cannot be read or written."""

    code = "STORE_ERROR"
    handling = Handling.BOUNDED


class StoreFull(StoreError):
    """No space left, or over quota."""

    code = "STORE_FULL"


class StoreUnavailable(StoreError):
    """An object store does not answer, or is too busy, for longer than one call waits."""

    code = "STORE_UNAVAILABLE"
    handling = Handling.TRANSIENT


class ObjectExists(AmpdError):
    """A write-once object is there already with other content."""

    code = "OBJECT_EXISTS"


class ObjectMissing(AmpdError):
    """A registered object is not in the store."""

    code = "OBJECT_MISSING"


# -- bugs and accidents ------------------------------------------------------------------------------------------


class FailpointError(AmpdError):
    """Somebody armed a failpoint to raise: time mends it."""

    code = "FAILPOINT"
    handling = Handling.TRANSIENT


class Unexpected(AmpdError):
    """An exception that nobody foresaw; Amp's code for it is ``PANIC`` (``spec/metadata-db.md`` 5.7)."""

    code = "PANIC"
    handling = Handling.BOUNDED

    @classmethod
    def of(cls, error: BaseException) -> Unexpected:
        """Wrap ``error``; its text may hold anything, so only its type is kept."""
        return cls(f"unexpected {type(error).__name__}; the log has the details. Please report it.")


class InvalidFileRow(AmpdError):
    """A row of ``file_metadata`` is not that of a raw table's file."""

    code = "INVALID_FILE_METADATA"


# -- jobs -------------------------------------------------------------------------------------------------------


class InvalidManifest(AmpdError):
    """The manifest is absent, unreadable or not of a kind that we run."""

    code = "GET_DATASET"


class InvalidDescriptor(AmpdError):
    """A job's descriptor is missing or does not decode (``spec/metadata-db.md`` 5.5)."""

    code = "INVALID_DESCRIPTOR"


class UnsupportedJobKind(AmpdError):
    """The job is of a kind that this worker does not run."""

    code = "UNSUPPORTED_JOB_KIND"


class NoGoodBlock(AmpdError):
    """Every block of a job is wrong, whoever is asked: it is not the blocks."""

    code = "NO_GOOD_BLOCK"


class RayUnavailable(AmpdError):
    """Ray does not start here, or no cluster answers at the address."""

    code = "RAY_UNAVAILABLE"


class PackageMismatch(AmpdError):
    """A Ray node has no ampd-ray, or another version than the worker."""

    code = "PACKAGE_MISMATCH"
    handling = Handling.BOUNDED


class InsecureRay(AmpdError):
    """Whoever reaches this Ray may run what they like in it, since it asks for no token."""

    code = "INSECURE_RAY"


class ActorLost(AmpdError):
    """An extractor or writer actor, or its Ray node, died."""

    code = "ACTOR_LOST"
    handling = Handling.TRANSIENT


class HandedBack(AmpdError):
    """An extractor whose machine is about to go has no block of a task: another one gets it."""

    code = "HANDED_BACK"
    handling = Handling.TRANSIENT


class OutOfMemory(ActorLost):
    """A Ray task was killed for memory: ask for fewer blocks at once."""

    code = "OUT_OF_MEMORY"


class RowsLost(ActorLost):
    """Extracted rows vanished on their way to a writer, which lives, or nobody had room for them."""

    code = "ROWS_LOST"

    @property
    def no_room(self) -> bool:
        """True if fewer rows might have got through."""
        return bool(self.details["no_room"])


class JobFailed(AmpdError):
    """A step of a job failed for good.

    ``step`` is the code of ``spec/metadata-db.md`` 5.7; whether it is an ERROR or a FATAL follows from the cause.
    """

    def __init__(self, message: str, *, step: str, retryable: bool, **details: Any) -> None:
        super().__init__(message, step=step, retryable=retryable, **details)
        self.step = step
        self._retryable = retryable

    @property
    def retryable(self) -> bool:
        """True: the row becomes ERROR; false: FATAL."""
        return self._retryable
