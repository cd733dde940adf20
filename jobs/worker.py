"""Run one Amp worker on the Ray cluster that this Ray job was submitted to.

    ray job submit --working-dir . --entrypoint-resources '{"amp_node": 0.1}' -- \\
        python jobs/worker.py --config amp.toml --node-id worker-1

Arguments are those of ``ampd worker``; the exit code is the Ray job's outcome. The resource is that of the stable Ray
nodes of ``cluster.yaml``; without it the worker runs on the head. ``ray job stop`` gives it RAY_JOB_STOP_WAIT_TIME_S
(3) to drain; what is not committed by then is extracted again.
"""

import sys

from ampd_ray.cli.app import app

if __name__ == "__main__":
    app(["worker", "--address", "auto", *sys.argv[1:]])
