"""Looks at a data set from outside and says what is wrong with it: the invariants of ``spec/commit.md`` 8.

A process of its own that shares no code with the product: SQL, hashes, Parquet, /proc.

    python -m tests.chaos.check DATABASE_URL NAMESPACE/NAME FIRST LAST
    python -m tests.chaos.check --serve

====================  =================================================================================
coverage              I1 exactly once, I6 epochs of files, I7 all tables alike
objects               I2 rows and their objects, I3 objects that nobody knows
chain                 I4 rows against an independent dump, hashes and roots
control               I5 statuses and events, jobs of dead nodes, I6 epochs of leases
witness               I6 the epoch of each segment and of its lease, as it commits
processes             I8 memory, descriptors, threads, disk
secrets               I9 a canary that must be seen nowhere
story                 I10 to I12: what the one who injected the faults has measured
====================  =================================================================================
"""

from tests.chaos.check.checker import check
from tests.chaos.check.files import TABLES, read_files

__all__ = ["TABLES", "check", "read_files"]
