"""Run one Amp worker on the Ray cluster that this Ray job was submitted to.

    ray job submit --working-dir . -- python jobs/worker.py --config amp.toml --node-id worker-1

Arguments are those of ``ampd worker``; the exit code is the Ray job's outcome.
"""

import sys

from ampd_ray.cli.app import app

if __name__ == "__main__":
    app(["worker", "--address", "auto", *sys.argv[1:]])
