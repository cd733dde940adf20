"""A simulator: real jobs, nodes and SQL verbs, several workers in one process, and a seed that decides all the rest.

Everything of a worker that touches the metadata database or the store runs as it does in production: the job and its
passes, the writer's protocol, leases and their keeper, the runner of jobs, take-over and sweep. The database is a real
Postgres. What is simulated is what production leaves to chance:

===========  =======================================================================================================
``kernel``   time, and whose turn it is: each statement and each call to the store waits for its turn at a *gate*
``wire``     sessions to the database whose statements are steps, whose lock waits are seen, and which can be cut
``store``    objects in memory, and files without Parquet
``chain``    blocks that are only hashes, with a reorg in them
``process``  a process that can be killed, or stopped for longer than its leases live
``node``     a worker: everything real but its processes
``control``  what controllers and operators do meanwhile
``world``    one database with all of them
``faults``   what goes wrong, and how often it did
``schedule`` the seeded choice of what happens next
``checker``  what must hold, in plain SQL, after each commit and at the end
``mutants``  the product with one guard switched off: the checker must notice
``run``      one seed from its start to its verdict; ``batch``: many of them, in several processes
===========  =======================================================================================================

``python -m tests.simulator --seeds 20000`` runs many; ``--first N --seeds 1 --trace`` shows one.
"""
