"""Ray nodes are lost one after the other: ``python -m tests.chaos.losses``."""
