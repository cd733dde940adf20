"""Backfill a block range on the configured database, from a Ray job.

    ray job submit --working-dir jobs -- \\
        python backfill.py --config /etc/amp/amp.toml --rpc URL --blocks 15M:16M

Arguments are those of ``ampd backfill``; the work is done by the workers that are alive. The exit code is the Ray job's
outcome: 0 when the range is complete, 1 when it has holes. Ray shows the command to whoever reaches the cluster: a URL
with a secret in it is for ``ampd deploy``, whose provider files read ``${NAME}`` from the environment.
"""

import sys

from ampd_ray.cli.app import app

if __name__ == "__main__":
    app(["backfill", *sys.argv[1:]])
