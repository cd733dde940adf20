"""What single chains do differently, recognised by an exact rule rather than by the chain's name."""

from __future__ import annotations

from ampd_ray.datasets.evm.hashing import keccak256


def state_sync_hash(number: int, block_hash: bytes) -> bytes:
    """The hash of the synthetic transaction in which Polygon's Bor lists the state syncs of a block.

    Nobody signed it, it pays no gas, and neither the block's roots, nor its bloom, nor its gas cover it. Its hash
    is the Keccak-256 of this key, so that no other transaction can be taken for it.
    """
    return keccak256(b"matic-bor-receipt-" + number.to_bytes(8, "big") + block_hash)
