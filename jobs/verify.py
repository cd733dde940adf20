"""Verify a dataset's files against its chain's hashes and signatures, spread over the cluster of this Ray job.

    ray job submit --working-dir jobs -- python verify.py --config /etc/amp/amp.toml NAMESPACE/NAME

Arguments are those of ``ampd verify``; --address auto is given. The exit code is the Ray job's outcome: 0 when all
passed, 1 when blocks failed or could not be read.
"""

import sys

from ampd_ray.cli.app import app

if __name__ == "__main__":
    app(["verify", "--address", "auto", *sys.argv[1:]])
