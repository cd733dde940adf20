"""The metadata service of one machine, as AWS, GCP and Azure have it, and the notice that it is taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

NAME, TOKEN = "spot-7", "session-token"


class Metadata(ThreadingHTTPServer):
    """``asked`` are the paths so far; ``broken`` answers status 500."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.broken = False
        self.tokens = 0
        self._at: datetime | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take_away(self, secs: float) -> None:
        """From now on the machine is said to go in so many seconds."""
        self._at = datetime.now(UTC) + timedelta(seconds=secs)

    def answer(self, method: str, path: str, headers: Any) -> tuple[int, str]:
        """Status and text."""
        self.asked.append(path)
        if self.broken:
            return 500, "<html>"
        match method, path.partition("?")[0]:
            case "PUT", "/latest/api/token" if headers["X-aws-ec2-metadata-token-ttl-seconds"]:
                self.tokens += 1
                return 200, f"{TOKEN}-{self.tokens}"
            case "GET", "/latest/meta-data/spot/instance-action":
                return self._of_aws(headers["X-aws-ec2-metadata-token"])
            case "GET", "/computeMetadata/v1/instance/preempted" if headers["Metadata-Flavor"] == "Google":
                return 200, "FALSE" if self._at is None else "TRUE"
            case "GET", "/metadata/instance/compute/name" if headers["Metadata"] == "true":
                return 200, NAME
            case "GET", "/metadata/scheduledevents" if headers["Metadata"] == "true":
                return 200, json.dumps({"DocumentIncarnation": 1, "Events": self._of_azure()})
        return 400, ""

    def _of_aws(self, token: str | None) -> tuple[int, str]:
        if token != f"{TOKEN}-{self.tokens}":
            return 401, ""
        if self._at is None:
            return 404, "<html>"
        return 200, json.dumps({"action": "terminate", "time": self._at.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def _of_azure(self) -> list[dict[str, Any]]:
        """Another machine of the set is taken away at once, and this one is frozen for a moment now and then."""
        soon = format_datetime(datetime.now(UTC), usegmt=True)
        events = [("Preempt", "spot-8", soon), ("Freeze", NAME, soon)]
        events += [("Preempt", NAME, format_datetime(self._at, usegmt=True))] if self._at else []
        return [{"EventType": kind, "Resources": [machine], "NotBefore": at} for kind, machine, at in events]


class _Handler(BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        self._answer("GET")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        status, text = self.server.answer(method, self.path, self.headers)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def metadata() -> Iterator[Metadata]:
    """Serve until the block ends."""
    server = Metadata()
    thread = Thread(target=lambda: server.serve_forever(poll_interval=0.05))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
