"""The moments at which it hurts most to be killed, to stand still, or to go on."""

from __future__ import annotations

from typing import Final

# A writer goes on when another one has the leases, has planned, is about to write or commit, or deletes.
_WRITES: Final = (
    "drop_orphans", "@planned", "announce", "@intent-written", "@before-commit", "@sweep-found", "@sweep-deleted",
    "mark_swept",
)  # fmt: skip
# A sweep goes on when a writer announces, writes or commits just what it found.
_SWEEPS: Final = ("announce", "@intent-written", "@before-commit", "lock_for_commit", "@in-commit", "fulfil_intents")
# A job's end is written when another node has the job.
_SETTLES: Final = ("@takeover-claimed", "@takeover-claimed", "drop_orphans")
ANY: Final = (*_WRITES, *_SWEEPS, *_SETTLES, "transition")

# Where each task halts, how often it is disturbed there, and what its pause may wait for.
HOT: Final[dict[str, tuple[float, tuple[str, ...]]]] = {
    "@planned": (0.06, _WRITES),
    "announce": (0.08, _WRITES),
    "@intent-written": (0.08, _WRITES),
    "@before-commit": (0.15, _WRITES),
    "lock_for_commit": (0.1, _WRITES),
    "@in-commit": (0.03, ANY),
    "@committed": (0.06, ANY),
    "@sweep-found": (0.4, _SWEEPS),
    "@sweep-deleted": (0.15, _SWEEPS),
    "@sweep-collected": (0.2, _SWEEPS),
    "@before-settle": (0.05, _SETTLES),
    "@before-end": (0.5, _SETTLES),
    "@takeover-claiming": (0.08, ANY),
    "@takeover-claimed": (0.1, ANY),
}

KINDS: Final = {
    "@sweep-found": ("kill", "stop", "stall", "stall", "stall", "stall", "stall"),
    "@before-end": ("kill", "stop", "stop", "stop", "stop", "stop", "stop"),
}
