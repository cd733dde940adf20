"""Run an Amp worker on every stable Ray node of the cluster that this Ray job was submitted to.

    ray job submit --working-dir jobs --runtime-env-json '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}' -- \\
        python fleet.py --config /etc/amp/amp.toml --node-prefix amp-

Arguments are those of ``ampd worker``; --every-node and --address auto are given. Stable are the Ray nodes with the
resource amp_node; workers follow those that join and leave. The exit code is the Ray job's outcome: 0 after ``ray job
stop`` if all drained in time, which is what the variable gives them (3 s without it).
"""

import sys

from ampd_ray.cli.app import app

if __name__ == "__main__":
    app(["worker", "--every-node", "--address", "auto", *sys.argv[1:]])
