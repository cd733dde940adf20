"""Audit a dataset of the configured database, from a Ray job.

    ray job submit --working-dir jobs -- python check.py --config /etc/amp/amp.toml NAMESPACE/NAME

Arguments are those of ``ampd check``. The exit code is the Ray job's outcome: 0 when all is well, 1 when something is
wrong.
"""

import sys

from ampd_ray.cli.app import app

if __name__ == "__main__":
    app(["check", *sys.argv[1:]])
