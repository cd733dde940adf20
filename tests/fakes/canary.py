"""Somebody on a Ray cluster who puts WORD into every place that Ray has for what it is told, at the raylet of HOST.

python -m tests.fakes.canary CLUSTER HOST WORD

says "planted: SESSION", SESSION being the directory of Ray's logs, and then, for each line that it reads, one line of
JSON with all that Ray's state API tells.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util import state

LARGE = 1 << 20  # bytes: what is put into the object store and not sent inline
MOST = 10_000
LISTS: tuple[Callable[..., Sequence[Any]], ...] = (
    state.list_actors,
    state.list_jobs,
    state.list_nodes,
    state.list_objects,
    state.list_placement_groups,
    state.list_runtime_envs,
    state.list_tasks,
    state.list_workers,
)


class Canary:
    """Is told the word, says it in its log and in what it raises."""

    def __init__(self, word: str) -> None:
        self._word = word

    def say(self) -> None:
        print(self._word)
        raise RuntimeError(self._word)


if __name__ == "__main__":
    _, address, host, word = sys.argv
    ray.init(address=address, _node_ip_address=host, log_to_driver=False)
    remote: Any = ray.remote
    canary = remote(num_cpus=0, runtime_env={"env_vars": {"WORD": word}})(Canary).remote(word)
    held = ray.put((word * (LARGE // len(word))).encode())
    try:
        ray.get(canary.say.remote())
    except RuntimeError:
        here = ray.get_runtime_context()
        print(f"planted: {Path(here.get_temp_dir(), here.get_session_name())}", flush=True)
    for _ in sys.stdin:
        told = {each.__name__: [str(row) for row in each(address, detail=True, limit=MOST)] for each in LISTS}
        print(json.dumps(told), flush=True)
