"""Checked blocks become the three Arrow tables."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.schemas import TABLES


def decode(blocks: Sequence[BlockAndReceipts], network: str, tables: Sequence[str] = TABLES) -> dict[str, pa.Table]:
    """The rows of ``blocks``, one table per name in ``tables``, exactly the schemas of data.md 1.

    Raises DataFault (malformed or missing field) and ValueOverflow (a value that does not fit its column), each
    naming network, block, transaction, log and field.
    """
    raise NotImplementedError
