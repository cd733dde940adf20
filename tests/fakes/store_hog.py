"""Somebody else on a Ray cluster, who fills the object store of the raylet at HOST and lets nothing go.

python -m tests.fakes.store_hog CLUSTER HOST
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import Any

import numpy as np
import ray
from ray.exceptions import ObjectStoreFullError, OutOfDiskError

SIZES = (4 << 20, 256 << 10, 32 << 10)  # bytes; large ones first


def fill() -> list[Any]:
    """Objects, each mapped into this process, so that none can be spilled or dropped."""
    held: list[Any] = []
    for size in SIZES:
        try:
            while True:
                reference = ray.put(np.ones(size, dtype=np.uint8))
                held.append((reference, ray.get(reference)))
        except (ObjectStoreFullError, OutOfDiskError):
            continue
    return held


if __name__ == "__main__":
    _, address, host = sys.argv
    ray.init(address=address, _node_ip_address=host, logging_level=logging.ERROR, log_to_driver=False)
    held = fill()
    print(f"full: {len(held)} objects", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
