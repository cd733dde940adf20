"""Backfill a block range on the configured database, from a Ray job.

    ray job submit --working-dir . -- python jobs/backfill.py --config amp.toml --rpc URL --blocks 15M:16M

Arguments are those of ``ampd backfill``; the work is done by the workers that are alive. The exit code is 0 when the
range is complete, 1 when it has holes.
"""

import sys

from ampd_ray.cli.app import app

if __name__ == "__main__":
    app(["backfill", *sys.argv[1:]])
