"""Which jobs of dead or drained nodes this node takes over, and what it writes for them (``spec/metadata-db.md`` 7.6).

Pure: facts and the time go in, decisions come out.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.metadb.takeover import Candidate, Claim, Move

IMPLEMENTATION: Final = "ampd-ray"
PER_SECOND_MAX: Final = 4
FRUITLESS_MAX: Final = 5
SEEN_SECS: Final = 5.0  # after the database was away, peers need a moment to say that they live


class Reason(StrEnum):
    """Why a job may change hands."""

    DEAD = "dead"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Situation:
    """This node at a moment: ``now`` counts seconds on any steady clock, ``jobs`` are those that it runs.

    ``seen_secs``: for how long it has reached the database without a break.
    """

    now: float
    jobs: int
    draining: bool
    seen_secs: float = math.inf


class Takeover:
    """The choice of one node, among the peers of its fail-over group. Remembers how fast it was, and what it tried."""

    def __init__(self, node_id: str, failover_group: str, max_jobs: int | None = None) -> None:
        self._node_id = node_id
        self._failover_group = failover_group
        self._max_jobs = max_jobs
        self._recent: deque[float] = deque()
        self._tries: dict[int, int] = {}  # of those that are candidates still

    def choose(self, situation: Situation, candidates: Iterable[Candidate]) -> list[Candidate]:
        """The jobs to claim now: at most four a second, and no more of those to run than there is room for.

        Peers go through the same jobs in different orders, so that they rarely want the same one; those that somebody
        holds back, though they were tried, come last.
        """
        candidates = list(candidates)
        self._tries = {each.job_id: self._tries.get(each.job_id, 0) for each in candidates}
        if situation.draining:
            return []
        while self._recent and situation.now - self._recent[0] >= 1:
            self._recent.popleft()
        room = None if self._max_jobs is None else max(0, self._max_jobs - situation.jobs)
        chosen: list[Candidate] = []
        for candidate in sorted(candidates, key=self._preference):
            if len(self._recent) >= PER_SECOND_MAX:
                break
            reason = self.reason(candidate)
            if reason is None or (to_run(candidate) and room == 0):
                continue
            if reason is Reason.DEAD and situation.seen_secs < SEEN_SECS:
                continue  # nobody could be seen to live
            if room is not None and to_run(candidate):
                room -= 1
            self._recent.append(situation.now)
            self._tries[candidate.job_id] += 1
            chosen.append(candidate)
        return chosen

    def reason(self, candidate: Candidate) -> Reason | None:
        """Why the job may be taken over; None: it may not. Asked again when everything is locked."""
        if not self._of_peer(candidate) or not candidate.lapsed:
            return None
        if candidate.draining:
            return Reason.RELEASED
        return Reason.DEAD if candidate.silent else None

    def soon(self, candidate: Candidate) -> bool:
        """True if nothing but time is missing: the node lease has run out, the rest does within a second or so."""
        return self._of_peer(candidate) and self.reason(candidate) is None

    def _of_peer(self, candidate: Candidate) -> bool:
        """An open job of a node of our group whose lease has run out."""
        peer = candidate.implementation == IMPLEMENTATION and candidate.failover_group == self._failover_group
        return peer and candidate.expired and candidate.status in _WRITES

    def _preference(self, candidate: Candidate) -> tuple[int, bytes]:
        order = hashlib.sha256(f"{self._node_id}/{candidate.job_id}".encode()).digest()
        return self._tries[candidate.job_id], order


def loops(candidate: Candidate) -> bool:
    """True for a job that wanders from node to node and commits nothing: it would only harm the next one."""
    return candidate.status in _TO_RUN and candidate.fruitless >= FRUITLESS_MAX


def to_run(candidate: Candidate) -> bool:
    """True if the job will run here; otherwise only its end is written."""
    return candidate.status in _TO_RUN and not loops(candidate)


def settlement(candidate: Candidate, reason: Reason, epoch: int) -> Claim:
    """What to write for a job that does not loop. RUNNING, never SCHEDULED, which Amp's controller counts (5.8)."""
    handed = {"reassigned_from": candidate.node_id, "reason": reason.value, "epoch": epoch}
    moves = (Move(status, handed if status is JobStatus.RUNNING else None) for status in _WRITES[candidate.status])
    return Claim(tuple(moves))


_TO_RUN: Final = frozenset({JobStatus.SCHEDULED, JobStatus.RUNNING})
_WRITES: Final = {
    JobStatus.SCHEDULED: (JobStatus.RUNNING,),
    JobStatus.RUNNING: (JobStatus.RUNNING,),
    JobStatus.STOP_REQUESTED: (JobStatus.STOPPING, JobStatus.STOPPED),
    JobStatus.STOPPING: (JobStatus.STOPPED,),
}
