"""What a controller does to jobs: schedule, stop, schedule again, delete (``spec/metadata-db.md`` 7.1-7.4).

Each verb is one transaction: it locks the status row, decides, writes row and event, and hints to the node. Which
node is somebody else's choice.
"""

from __future__ import annotations

from typing import Any, Final

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, JobConflict, NotFound, WorkerNotAvailable
from ampd_ray.metadb import quarantine
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.notifications import Action, notify_job
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.statuses import ACTIVE, TERMINAL, TRANSITIONS, JobStatus
from ampd_ray.metadb.workers import is_alive, is_registered

_SQL: Final = load(__file__)
_RACES_MAX: Final = 10


async def schedule(db: Database, descriptor: JobDescriptor, node_id: str) -> int:
    """Have ``node_id`` do what ``descriptor`` says; the id of the job, which is the same for the same dataset.

    Work that is at hand already is left alone. Raises JobConflict while the job is at work by another descriptor or
    is being stopped, and WorkerNotAvailable for a node that never registered. May be repeated after CommitUnknown.
    """
    for _ in range(_RACES_MAX):
        async with db.transaction() as conn:
            if not await is_registered(conn, node_id):
                raise WorkerNotAvailable(f"no worker is registered as {node_id}", node_id=node_id)
            job_id = await _schedule(conn, descriptor, node_id)
            if job_id is not None:
                return job_id
    raise JobConflict(f"{descriptor.dataset} is being scheduled by others all the time; try again")


async def request_stop(db: Database, job_id: int) -> bool:
    """Ask the job's node to stop it. False: it is stopping or at an end already, which is as good.

    Raises NotFound, and JobConflict for a status that we do not know.
    """
    async with db.transaction() as conn:
        row = await _lock(conn, job_id)
        status = JobStatus.read(row.status)
        if status is JobStatus.UNKNOWN:
            raise JobConflict(f"job {job_id} is in a status that we do not know: {row.status[:40]!r}", job_id=job_id)
        if status not in TRANSITIONS[JobStatus.STOP_REQUESTED]:
            return False
        await _move(conn, row, JobStatus.STOP_REQUESTED)
        await notify_job(conn, row.node_id, job_id, Action.STOP)
        return True


async def reschedule(db: Database, job_id: int, node_id: str) -> bool:
    """Try a job in ERROR again, on ``node_id``, by its newest descriptor; False: it is not in ERROR any more.

    False as well for a job without a descriptor, which no worker could run. Raises NotFound.
    """
    async with db.transaction() as conn:
        row = await _lock(conn, job_id)
        descriptor = await _newest_descriptor(conn, job_id)
        if JobStatus.read(row.status) is not JobStatus.ERROR or descriptor is None:
            return False
        await conn.execute(_SQL["forget_retry"], {"job_id": job_id})
        await _start(conn, job_id, node_id, descriptor)
        return True


async def retry(db: Database, job_id: int, node_id: str, *, quarantined: bool) -> int:
    """Have ``node_id`` run a job that is at an end once more, by its newest descriptor, whatever its end was.

    With ``quarantined`` the blocks that were set aside are asked for again; how many. Raises NotFound, JobConflict
    while the job is not at an end or where some tables would go on without those blocks, unlisted, and
    InvalidDescriptor or UnsupportedJobKind for what no worker of ours can run.
    """
    async with db.transaction() as conn:
        row = await _lock(conn, job_id)
        if JobStatus.read(row.status) not in TERMINAL:
            raise JobConflict(
                f"job {job_id} is {row.status[:40]} on {row.node_id}: try again when it has ended, or stop it first "
                f"(`ampd jobs stop {job_id}` or amp.job({job_id}).stop())",
                job_id=job_id,
            )
        text = await _newest_descriptor(conn, job_id) or "null"
        descriptor, cleared = JobDescriptor.parse(text), 0
        if quarantined:
            await quarantine.require_all_tables(conn, job_id, descriptor)
            end = descriptor.end_block or ""
            last = int(end) if end.isdecimal() else None  # an earlier run may have gone beyond it
            cleared = await quarantine.clear(conn, quarantine.group_of(descriptor), last)
        await conn.execute(_SQL["delete_state"], {"job_id": job_id})
        await _start(conn, job_id, node_id, text)
        return cleared


async def delete(db: Database, job_id: int) -> None:
    """Forget a job that is at an end. Raises NotFound, and JobConflict while it is not."""
    async with db.transaction() as conn:
        row = await _lock(conn, job_id)
        if JobStatus.read(row.status) not in TERMINAL:
            raise JobConflict(f"job {job_id} is {row.status[:40]}: stop it before deleting it", job_id=job_id)
        for name in ("delete_job", "delete_progress", "delete_rates", "delete_state"):
            await conn.execute(_SQL[name], {"job_id": job_id})


async def _schedule(conn: Connection, descriptor: JobDescriptor, node_id: str) -> int | None:
    """One attempt; None when another transaction has just inserted the same job."""
    key = descriptor.idempotency_key
    row = await (await conn.execute(_SQL["lock_by_key"], {"key": key})).fetchone()
    if row is None:
        return await _insert(conn, key, descriptor, node_id)
    job_id = int(row.job_id)
    status = JobStatus.read(row.status)
    if status not in TERMINAL:
        if await _at_hand(conn, row, status, descriptor):
            return job_id
        await _finish_stop(conn, row, status, descriptor)
    await conn.execute(_SQL["delete_state"], {"job_id": job_id})
    await _start(conn, job_id, node_id, descriptor.to_json())
    return job_id


async def _insert(conn: Connection, key: str, descriptor: JobDescriptor, node_id: str) -> int | None:
    job = await (await conn.execute(_SQL["insert_job"], {"node_id": node_id, "key": key})).fetchone()
    if job is None:
        return None
    values = {"job_id": job.job_id, "node_id": node_id, "descriptor": descriptor.to_json()}
    await conn.execute(_SQL["insert_status"], values)
    await _announce(conn, job.job_id, node_id, descriptor.to_json())
    return int(job.job_id)


async def _at_hand(conn: Connection, row: Any, status: JobStatus, descriptor: JobDescriptor) -> bool:
    """Whether the job is scheduled or running and does just this. Raises JobConflict if it does something else."""
    if status not in (JobStatus.SCHEDULED, JobStatus.RUNNING):
        return False
    text = await _newest_descriptor(conn, row.job_id)
    try:
        if text is not None and JobDescriptor.parse(text).same_work(descriptor):
            return True
    except AmpdError:  # written by somebody else, and no match for anything of ours
        pass
    raise JobConflict(
        f"job {row.job_id} of {descriptor.dataset} is {status} on {row.node_id} with other parameters: wait until it "
        f"ends, or stop it first (`ampd jobs stop {row.job_id}` or amp.job({row.job_id}).stop())",
        job_id=row.job_id,
    )


async def _finish_stop(conn: Connection, row: Any, status: JobStatus, descriptor: JobDescriptor) -> None:
    """Make the last steps of a stop for a node that is dead. Raises JobConflict if it lives, or for UNKNOWN."""
    if status not in ACTIVE or await is_alive(conn, row.node_id):
        raise JobConflict(
            f"job {row.job_id} of {descriptor.dataset} is {row.status[:40]} on {row.node_id}: try again when it has "
            "stopped",
            job_id=row.job_id,
        )
    if status is JobStatus.STOP_REQUESTED:
        await _move(conn, row, JobStatus.STOPPING)
    await _move(conn, row, JobStatus.STOPPED)


async def _start(conn: Connection, job_id: int, node_id: str, descriptor: str) -> None:
    values = {"job_id": job_id, "node_id": node_id, "descriptor": descriptor}
    await conn.execute(_SQL["update_scheduled"], values)
    await _announce(conn, job_id, node_id, descriptor)


async def _announce(conn: Connection, job_id: int, node_id: str, descriptor: str) -> None:
    await _record(conn, job_id, node_id, JobStatus.SCHEDULED, descriptor)
    await notify_job(conn, node_id, job_id, Action.START)


async def _move(conn: Connection, row: Any, status: JobStatus) -> None:
    """Set the status of a locked row, with its event under the assigned node."""
    await conn.execute(_SQL["set_status"], {"job_id": row.job_id, "status": status.value})
    await _record(conn, row.job_id, row.node_id, status, None)


async def _record(conn: Connection, job_id: int, node_id: str, status: JobStatus, detail: str | None) -> None:
    values = {"job_id": job_id, "node_id": node_id, "event_type": status.value, "detail": detail}
    await conn.execute(_SQL["insert_event"], values)


async def _lock(conn: Connection, job_id: int) -> Any:
    row = await (await conn.execute(_SQL["lock_by_id"], {"job_id": job_id})).fetchone()
    if row is None:
        raise NotFound(f"there is no job {job_id}", job_id=job_id)
    return row


async def _newest_descriptor(conn: Connection, job_id: int) -> str | None:
    row = await (await conn.execute(_SQL["newest_descriptor"], {"job_id": job_id})).fetchone()
    return row.text if row else None
