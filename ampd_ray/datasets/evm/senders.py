"""Who signed a transaction: the address whose key the signature reveals (EIP-2, yellow paper appendix F)."""

from __future__ import annotations

from coincurve import PublicKey

from ampd_ray.datasets.evm.hashing import keccak256


def sender_of(signed: bytes, r: bytes, s: bytes, parity: int) -> bytes | None:
    """The 20-byte address that signed the hash of ``signed``; None if this is nobody's signature.

    This is all but the whole cost of it: libsecp256k1 takes 40 µs a signature, whatever calls it.
    """
    try:
        key = PublicKey.from_signature_and_message(r + s + bytes([parity]), keccak256(signed), hasher=None)
    except ValueError:
        return None
    return keccak256(key.format(compressed=False)[1:])[12:]
