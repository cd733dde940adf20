"""A local chain to try things on.

``chain`` makes blocks (pure, deterministic from a seed), ``transactions`` signs what is in them, ``rpc`` answers
JSON-RPC calls about them and ``server`` puts that behind HTTP and WebSocket on loopback.
"""
