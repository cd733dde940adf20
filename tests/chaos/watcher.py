"""The checker as the conductor's side sees it: a process of its own, asked after each schedule."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Self

from tests.chaos.check.story import Story
from tests.chaos.world import World
from tests.fakes.ampd import CANARY
from tests.fakes.places import REPO
from tests.servers import as_owner


class Watcher:
    """``look`` has the world looked at; use it as a context manager."""

    def __init__(self, world: World) -> None:
        command = [sys.executable, "-m", "tests.chaos.check", "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPO)
        self._world = world
        self._say(
            url=as_owner(world.site.url),
            node_url=world.around.node_url,
            data_dir=str(world.site.data_dir),
            logs=[str(world.site.directory), *(str(world.directory / node_id) for node_id in world.nodes)],
            canary=CANARY,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def look(
        self, datasets: dict[str, tuple[int, int]], story: Story | None = None, *, full: bool = False
    ) -> dict[str, Any]:
        """What it finds in blocks first to last of these datasets, and in all else: see ``Checker.look``."""
        pids = [process.pid for node in self._world.nodes.values() for process in node.processes]
        self._say(datasets=datasets, pids=pids, story=story, full=full)
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"problems": ["the checker died"]}')
        return answer

    def _say(self, **what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
