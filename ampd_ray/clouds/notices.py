"""How each cloud tells a machine that it will be taken away: what to ask its metadata service, what answers mean.

Pure but for ``ask``, which sends a request and gives back status and text. Nothing but the notice is ever asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

Ask = Callable[[str, str, Mapping[str, str]], tuple[int, str]]

GCP_SECS: Final = 30.0  # from the notice to the end; no time is told
OK, UNAUTHORIZED, NOT_FOUND = 200, 401, 404


class NoAnswer(Exception):
    """The metadata service does not say anything that can be understood."""


class Cloud(Protocol):
    """The metadata service of one machine."""

    def secs_left(self, ask: Ask, now: datetime) -> float | None:
        """Seconds until the machine is taken away; None if nobody is about to. Raises ``NoAnswer``."""


class Aws:
    """EC2: a spot instance's action and its time, two minutes ahead. A session's token goes with each request."""

    _ACTION: Final = "/latest/meta-data/spot/instance-action"
    _LIFETIME: Final = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}

    def __init__(self) -> None:
        self._token: str | None = None

    def secs_left(self, ask: Ask, now: datetime) -> float | None:
        """By ``instance-action``, which is not there until there is a notice."""
        if self._token is None:
            self._token = _good(*ask("PUT", "/latest/api/token", self._LIFETIME)).strip()
        status, text = ask("GET", self._ACTION, {"X-aws-ec2-metadata-token": self._token})
        if status == UNAUTHORIZED:
            self._token = None  # it has run out: the next time brings another
            return None
        if status == NOT_FOUND:
            return None
        at = _object(_good(status, text)).get("time")
        return _until(_parsed(datetime.fromisoformat, at), now)


class Gcp:
    """Compute Engine: whether the machine is being pre-empted, half a minute ahead."""

    _PREEMPTED: Final = "/computeMetadata/v1/instance/preempted"

    def secs_left(self, ask: Ask, now: datetime) -> float | None:
        """By ``preempted``: TRUE or FALSE."""
        said = _good(*ask("GET", self._PREEMPTED, {"Metadata-Flavor": "Google"})).strip()
        if said not in ("TRUE", "FALSE"):
            raise NoAnswer("neither TRUE nor FALSE")
        return GCP_SECS if said == "TRUE" else None


class Azure:
    """Virtual machines: the scheduled events of all machines of a set, half a minute ahead or more."""

    _NAME: Final = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
    _EVENTS: Final = "/metadata/scheduledevents?api-version=2020-07-01"
    _HEADERS: Final = {"Metadata": "true"}
    _ENDS: Final = ("Preempt", "Terminate", "Redeploy", "Reboot")

    def __init__(self) -> None:
        self._name: str | None = None

    def secs_left(self, ask: Ask, now: datetime) -> float | None:
        """By the first event that ends this machine; one that has begun has no time any more."""
        if self._name is None:
            self._name = _good(*ask("GET", self._NAME, self._HEADERS)).strip()
        events = _object(_good(*ask("GET", self._EVENTS, self._HEADERS))).get("Events")
        if not isinstance(events, list):
            raise NoAnswer("no list of events")
        ends = [event for event in events if isinstance(event, dict) and self._is_end_of_ours(event)]
        times = [event.get("NotBefore") for event in ends]
        return min((_until(_parsed(parsedate_to_datetime, at), now) if at else 0.0 for at in times), default=None)

    def _is_end_of_ours(self, event: Mapping[str, Any]) -> bool:
        machines = event.get("Resources")
        ours = isinstance(machines, list) and self._name in machines
        return ours and event.get("EventType") in self._ENDS


def _good(status: int, text: str) -> str:
    if status != OK:
        raise NoAnswer(f"HTTP status {status}")
    return text


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NoAnswer("no JSON") from error
    if not isinstance(found, dict):
        raise NoAnswer("no JSON object")
    return found


def _parsed(parse: Callable[[str], datetime], text: object) -> datetime:
    try:
        at = parse(str(text))
    except ValueError as error:
        raise NoAnswer("no time") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _until(at: datetime, now: datetime) -> float:
    return max(0.0, (at - now).total_seconds())
