"""Cards that stay up to date in a notebook: one thread for each job that is displayed, which asks Postgres.

It updates displays in place, by their ids, and never prints anything. So it makes no difference whether the kernel is
busy, which cell runs, or where the job does.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from ampd_ray.client.displays.watcher import View, Watched, Watcher

logger = logging.getLogger(__name__)

EVERY_SECS: Final = 1.0
MOST_DISPLAYS: Final = 8  # of one job; who displays it once more does without the oldest
SETTLE_SECS: Final = 3.0

Publish = Callable[[dict[str, str], bool], None]
"""Shows a bundle, the second time in place of the first (True)."""


class Follower:
    """Keeps the displays of one job up to date until it is over."""

    def __init__(self, watcher: Watcher, every_secs: float = EVERY_SECS):
        self._watcher = watcher
        self._every_secs = every_secs
        self._changed = threading.Condition()
        self._displays: deque[tuple[Publish, dict[str, str]]] = deque(maxlen=MOST_DISPLAYS)
        self._asked = self._answered = 0
        self._over = False
        self.thread = threading.Thread(target=self._run, name="ampd-ray-card", daemon=True)

    def add(self, publish: Publish, shown: dict[str, str]) -> bool:
        """Keep one more display up to date, which shows ``shown`` now; False if it is over."""
        with self._changed:
            if self._over:
                return False
            self._displays.append((publish, shown))
            return True

    def look_now(self, within_secs: float) -> None:
        """Return when all displays show what is true now, or it has taken too long."""
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= asked or self._over, within_secs)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked > self._answered, self._every_secs)
                asked = self._asked
            view = self._watcher.look()
            with self._changed:
                self._over = not self._show(view) or view.over
                self._answered = asked
                self._changed.notify_all()
            if self._over:
                return

    def _show(self, view: View) -> bool:
        """False if there is nobody to show it to any more."""
        for at, (publish, shown) in enumerate(self._displays):
            if shown != view.bundle:
                try:
                    publish(view.bundle, True)
                except Exception:  # the kernel is about to end, and a traceback would go to some other cell
                    logger.debug("a card could not be shown", exc_info=True)
                    return False
                self._displays[at] = (publish, view.bundle)
        return True


_followers: dict[tuple[int, int], Follower] = {}  # by session and job
_lock = threading.Lock()


def show(job: Watched, session: object) -> None:
    """Display the card of a job; in a kernel it stays up to date until the job has ended or the session is closed.

    For IPython only, which calls it for whatever is the value of a cell.
    """
    shell = import_module("IPython").get_ipython()
    watcher = Watcher(job, time.monotonic)
    view = watcher.look()
    publish = _publisher(shell)
    publish(view.bundle, False)
    if view.over or not _is_live(shell):
        return
    key = (id(session), job.id)
    with _lock:
        for ended in [key for key, each in _followers.items() if not each.thread.is_alive()]:
            del _followers[ended]
        if key in _followers and _followers[key].add(publish, view.bundle):
            return
        _followers[key] = follower = Follower(watcher)
        follower.add(publish, view.bundle)
        follower.thread.start()


def show_once(job: Watched, session: object) -> None:
    """In a kernel, display the card of a job unless one is kept up to date already; elsewhere nothing."""
    if is_available() and not is_shown(job, session):
        show(job, session)


def tell_it_goes_on(job: Watched) -> None:
    """In a kernel, say in the cell that was interrupted that only the waiting ended; elsewhere nothing."""
    if is_available():
        told = f"job {job.id} goes on; amp.job({job.id}) takes it up again"
        sys.modules["IPython"].get_ipython().display_pub.publish(data={"text/plain": told}, metadata={})


def is_available() -> bool:
    """True in a kernel; IPython is not imported to find out."""
    shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    return bool(shell) and _is_live(shell)


def is_shown(job: Watched, session: object) -> bool:
    """True while a card of the job is kept up to date."""
    found = _followers.get((id(session), job.id))
    return found is not None and found.thread.is_alive()


def settle(job: Watched, session: object) -> None:
    """Have its displays show how it is now, so that a notebook run by a program ends with true cards."""
    found = _followers.get((id(session), job.id))
    if found is not None and found.thread.is_alive():
        found.look_now(SETTLE_SECS)


def _is_live(shell: Any) -> bool:
    """True in a kernel; output that is being captured comes too early to be updated."""
    capturing = import_module("IPython.core.displaypub").CapturingDisplayPublisher
    return getattr(shell, "kernel", None) is not None and not isinstance(shell.display_pub, capturing)


def _publisher(shell: Any) -> Publish:
    """To a display of its own. It keeps to where it was made, whatever another cell captures meanwhile."""
    publisher, transient = shell.display_pub, {"display_id": uuid.uuid4().hex}

    def publish(bundle: dict[str, str], update: bool) -> None:
        publisher.publish(data=bundle, metadata={}, transient=transient, update=update)

    return publish
