"""Run one Amp worker on the Ray cluster that this Ray job was submitted to.

    ray job submit --working-dir jobs --runtime-env-json '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}' -- \\
        python worker.py --config /etc/amp/amp.toml --node-id worker-1

Arguments are those of ``ampd worker``; --address auto is given. The coordinator goes to a Ray node with the resource
amp_node, where there is one, wherever this process is. The exit code is the Ray job's outcome: 0 after ``ray job stop``
and a complete drain, for which the variable gives it time (3 s without it); what is not committed by then is extracted
again.
"""

import sys

from ampd_ray.cli.app import app

if __name__ == "__main__":
    app(["worker", "--address", "auto", *sys.argv[1:]])
