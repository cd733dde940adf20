"""``python -m tests.chaos.check``: one dataset by arguments, or a world by lines of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psycopg

from tests.chaos.check.checker import Checker, Look, check
from tests.chaos.check.files import read_files


def main(arguments: list[str]) -> int:
    """Print a summary as JSON; 1 if something is wrong."""
    if arguments == ["--serve"]:
        return serve()
    url, dataset, first, last = arguments
    problems = check(url, dataset, int(first), int(last))
    with psycopg.connect(url, autocommit=True) as connection:
        files = read_files(connection, dataset)
    epochs = sorted({file.epoch for file in files if file.epoch is not None})
    print(json.dumps({"problems": problems, "files": len(files), "epochs": epochs}))
    return 1 if problems else 0


def serve() -> int:
    """The first line tells where the world is, each other one what to look at; each is answered by a line."""
    where = json.loads(sys.stdin.readline())
    checker = Checker(
        where["url"],
        where["node_url"],
        Path(where["data_dir"]),
        [Path(each) for each in where["logs"]],
        where["canary"],
    )
    for line in sys.stdin:
        print(json.dumps(checker.look(Look(**json.loads(line)))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
