"""What a live card shows next: the job as it is, or that nobody can tell for now."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ampd_ray.client.displays.card import card_html, card_text
from ampd_ray.client.displays.state import Notice
from ampd_ray.client.progress import Progress, Rates
from ampd_ray.errors import AmpdError
from ampd_ray.metadb.statuses import RETRY_DELAY_MAX, JobStatus

logger = logging.getLogger(__name__)

RATES_EVERY_SECS: Final = 5.0
RETRIED_WITHIN_SECS: Final = 1.5 * RETRY_DELAY_MAX.total_seconds()
"""A job in ERROR is tried again within so long, or stays as it is."""


class Watched(Protocol):
    """A job. Its calls raise AmpdError, a retryable one while the database is away."""

    id: int

    def progress(self) -> Progress:
        """How far it is."""

    def rates(self) -> Rates:
        """How fast it was."""


@dataclass(frozen=True)
class View:
    """A card by MIME type; ``over``: there is nothing more to come."""

    bundle: dict[str, str]
    over: bool


class Watcher:
    """Looks at one job; ``clock`` gives seconds."""

    def __init__(self, job: Watched, clock: Callable[[], float]):
        self._job = job
        self._clock = clock
        self._now = Progress(job.id, "", JobStatus.UNKNOWN)
        self._rates: Rates | None = None
        self._rates_at = float("-inf")
        self._failed_at: float | None = None

    def look(self) -> View:
        """Ask once. Never raises: it runs where nobody would see it."""
        try:
            self._now = self._job.progress()
            over = self._is_over()
            if over or self._clock() - self._rates_at >= RATES_EVERY_SECS:
                self._rates, self._rates_at = self._job.rates(), self._clock()
        except AmpdError as error:
            return self._view(_away() if error.retryable else _gone(str(error)), over=not error.retryable)
        except Exception:  # as of a loop that was closed meanwhile
            logger.debug("a card is not kept up to date any more", exc_info=True)
            return self._view(_gone("the session is closed"), over=True)
        return self._view(over=over)

    def _is_over(self) -> bool:
        if self._now.status is not JobStatus.ERROR:
            self._failed_at = None
            return self._now.status.terminal
        if self._failed_at is None:
            self._failed_at = self._clock()
        return self._clock() - self._failed_at > RETRIED_WITHIN_SECS

    def _view(self, *notes: Notice, over: bool) -> View:
        html, text = card_html(self._now, self._rates, notes), card_text(self._now, notes)
        return View({"text/html": html, "text/plain": text}, over)


def _away() -> Notice:
    return Notice("warn", "the database is away: this is how it was", "the card goes on as soon as it is back")


def _gone(why: str) -> Notice:
    return Notice("calm", f"this card is not kept up to date any more: {why}")
