"""``ampd`` on a machine that has several raylets, at the one with the address HOST, as if it had no other.

python -m tests.fakes.on_raylet HOST worker --address CLUSTER ...
"""

from __future__ import annotations

import functools
import sys

import ray

from ampd_ray.cli import main

if __name__ == "__main__":
    _, host, *arguments = sys.argv
    ray.init = functools.partial(ray.init, _node_ip_address=host)
    sys.argv = ["ampd", *arguments]
    main()
