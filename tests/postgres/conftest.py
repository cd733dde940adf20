"""This tier runs on real servers; their fixtures are in ``tests/servers.py``, which all tiers share."""
