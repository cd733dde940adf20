"""``ray start`` as a deployment file asks for it: its options as Ray's own command line understands them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.scripts.scripts import start

RECORDER = """#!{python}
import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ)]))
"""


@dataclass(frozen=True)
class Started:
    """One ``ray start``: the options as Ray would have them, and the environment that Ray's processes inherit."""

    options: Mapping[str, Any]
    env: Mapping[str, str]


def understood(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of ``ray start``; raises what Ray's command line says of those that it does not know."""
    parsed: dict[str, Any] = start.make_context("ray start", list(arguments), resilient_parsing=False).params
    return parsed


def started(command: str, home: Path, env: Mapping[str, str]) -> Started:
    """Run a start command in a shell, with a ``ray`` that only tells what it was asked.

    ``~/`` is the home directory anywhere in it, as the launcher has it for containers.
    """
    recorder = home / "bin" / "ray"
    recorder.parent.mkdir(exist_ok=True)
    recorder.write_text(RECORDER.format(python=sys.executable))
    recorder.chmod(0o755)
    told = {"HOME": str(home), "PATH": f"{recorder.parent}:{os.defpath}", **env}
    words = ["bash", "-c", command.replace("~/", f"{home}/")]
    done = subprocess.run(words, env=told, capture_output=True, text=True, check=True, timeout=30)
    (verb, *arguments), inherited = json.loads(done.stdout)
    assert verb == "start", command
    return Started(understood(arguments), inherited)
