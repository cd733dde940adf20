"""Looks for jobs of dead or drained peers each second, and takes over those that ``node.takeover`` chooses."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from datetime import timedelta
from typing import Final

from ampd_ray import failpoints
from ampd_ray.errors import AmpdError, DatabaseUnavailable, TakeoverLoop
from ampd_ray.materialize.patience import Complaints
from ampd_ray.metadb import takeover
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.takeover import Candidate, Claim, Taker
from ampd_ray.node.answers import within
from ampd_ray.node.runner import JobRunner
from ampd_ray.node.settle import Settler
from ampd_ray.node.takeover import FRUITLESS_MAX, Situation, Takeover, loops, settlement

_log: Final = logging.getLogger(__name__)

LOOK_EVERY: Final = timedelta(seconds=1)
SLOW_LOOK: Final = timedelta(seconds=2)  # beyond, beats may come as late as our own answers
LATE_LOOK: Final = timedelta(seconds=3)  # after the one before
LOOK_CLOSELY_EVERY: Final = timedelta(milliseconds=200)  # while a peer is about to count as dead
JITTER: Final = 0.2


class JobClaimer:
    """Takes jobs over for one node. The runner hears of each, and starts it by its row as any other."""

    def __init__(self, db: Database, taker: Taker, decider: Takeover, runner: JobRunner, settler: Settler) -> None:
        self._db = db
        self._taker = taker
        self._decider = decider
        self._runner = runner
        self._settler = settler
        self._seen_since = float("-inf")
        self._looked_at = float("inf")
        self._complaints = Complaints("peers cannot be looked after")

    async def run(self) -> None:
        """Look each second, more or less, for ever; more often while a job is about to be free."""
        pause = LOOK_EVERY
        while True:
            spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, protects nothing
            await asyncio.sleep(pause.total_seconds() * spread)
            pause = LOOK_EVERY
            try:
                if await self._look():
                    pause = LOOK_CLOSELY_EVERY
                self._complaints.settle()
            except DatabaseUnavailable as error:
                self._complaints.add(error)

    async def _look(self) -> bool:
        """Take over what may be; True if more is about to be free."""
        candidates = await self._candidates()
        chosen = self._decider.choose(self._situation(), candidates)
        self._runner.counters.takeover_looks += 1
        for candidate in chosen:
            try:
                await within(self._claim(candidate))
            except DatabaseUnavailable as error:
                # Whether it happened or not, the rows tell at the next look.
                facts = {"job_id": candidate.job_id, "from": candidate.node_id, "error": error}
                _log.warning("a job could not be taken over; looking again", extra=facts)
            except AmpdError as error:
                _log.error("a job cannot be taken over", extra={"job_id": candidate.job_id, "error": error})
        return any(self._decider.soon(candidate) for candidate in candidates)

    def _situation(self) -> Situation:
        state = self._runner.state
        now = time.monotonic()
        return Situation(now, len(state.tasks), state.draining or state.fenced, now - self._seen_since)

    async def _candidates(self) -> list[Candidate]:
        started, seen = time.monotonic(), False
        if started - self._looked_at > LATE_LOOK.total_seconds():
            self._seen_since = started  # this process was asleep, and perhaps all of its peers were
        self._looked_at = started
        try:
            candidates = await within(self._read())
            seen = time.monotonic() - started < SLOW_LOOK.total_seconds()
        finally:
            if not seen:
                self._seen_since = time.monotonic()
        return candidates

    async def _read(self) -> list[Candidate]:
        async with self._db.connection() as conn:
            return await takeover.candidates(conn, self._taker)

    async def _claim(self, candidate: Candidate) -> None:
        loop = await self._looping(candidate) if loops(candidate) else None

        def decide(now: Candidate, epoch: int) -> Claim | None:
            reason = self._decider.reason(now)
            if reason is None or self._situation().draining:
                return None
            if loops(now):
                return loop
            return settlement(now, reason, epoch)

        try:
            made = await takeover.claim(self._db, candidate.job_id, self._taker, decide)
            if made is not None:
                await failpoints.reach("takeover-claimed")
        finally:
            self._runner.notified(candidate.job_id)  # also when nobody knows whether it happened
        if made is not None:
            self._runner.counters.takeovers += 1
            facts = {"job_id": candidate.job_id, "from": candidate.node_id, "written": made.moves[-1].status}
            _log.info("job taken over", extra=facts)

    async def _looping(self, candidate: Candidate) -> Claim:
        error = TakeoverLoop(
            f"the job was taken over {FRUITLESS_MAX} times within 10 minutes and committed nothing: it seems to end "
            "every node that runs it. Look at the logs of those nodes, the last of which was "
            f"{candidate.node_id}, before it is tried again.",
            takeovers=candidate.fruitless,
        )
        return await self._settler.failed_claim(candidate.job_id, error)
