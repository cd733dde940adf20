"""What Ray reads from the environment; to be set before ``ray`` is imported, so this module does not import it."""

from __future__ import annotations

import secrets
from collections.abc import MutableMapping


def prepare(environ: MutableMapping[str, str], *, local: bool) -> None:
    """Set what the user has not set: a local Ray stays on loopback, with a token of its own."""
    environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    environ.setdefault("RAY_DEDUP_LOGS", "0")
    environ.setdefault("RAY_COLOR_PREFIX", "0")
    # Ray warns of a change of default that does not concern actors without GPUs.
    environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if local:
        environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if "RAY_AUTH_MODE" not in environ:  # this machine's other users reach loopback too
            environ["RAY_AUTH_MODE"] = "token"
            environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
