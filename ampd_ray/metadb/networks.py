"""Which chain a network is: ``ampd_ray.network`` keeps what the first provider ever used said (``spec/data.md`` 2.2).

Only for networks whose name means no chain by itself, and that the configuration does not tell.
"""

from __future__ import annotations

from typing import Final

from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)


async def recorded(conn: Connection, network: str) -> int | None:
    """The chain id of ``network``; None if no provider of it was ever used."""
    row = await (await conn.execute(_SQL["recorded"], {"network": network})).fetchone()
    return int(row.chain_id) if row else None


async def record(db: Database, network: str, chain_id: int) -> int:
    """The chain id of ``network``, which is ``chain_id`` if nobody has said so before."""
    async with db.transaction() as conn:
        await conn.execute(_SQL["record"], {"network": network, "chain_id": chain_id})
        found = await recorded(conn, network)
    assert found is not None
    return found
