"""When an actor that does not answer counts as lost: the pure decision, taken at each turn of whoever asks.

An actor answers a probe however long its calls take, since all of them wait, work in threads, or give way every few
blocks; and however many there are, since a probe needs none of their slots (``probed.py``). What answers none for
``TURNS`` turns is halted, thrashes, or sits on a machine that does: its calls would never end.
"""

from __future__ import annotations

from dataclasses import dataclass

# With a turn every two seconds, half a minute: no step of ours holds an actor's loop for more than two seconds, and
# a machine that gives a process no millisecond in thirty seconds is of no use.
TURNS = 15


@dataclass
class Silence:
    """How many turns one actor has owed an answer.

    Turns, not seconds: if we have slept ourselves, so has the answer's way to us, and the first turn after that says
    nothing about the actor.
    """

    turns: int = 0

    def turn(self, *, answered: bool) -> bool:
        """One more turn; true if the actor is lost."""
        self.turns = 0 if answered else self.turns + 1
        return self.turns >= TURNS
