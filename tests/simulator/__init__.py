"""A simulator: real jobs, nodes and SQL verbs, several workers in one process, and a seed that decides all the rest.

Everything of a worker that touches the metadata database or the store runs as it does in production: the job and its
passes, the writer's protocol, leases and their keeper, the runner of jobs, take-over and sweep. The database is a real
Postgres. What is simulated is what production leaves to chance:

===========  =======================================================================================================
``kernel``   time, and whose turn it is: each statement and each call to the store waits for its turn at a *gate*
``loop``     the event loop that asks the scheduler whenever nothing is ready
``wire``     connections to the database, and who of them waits for a lock
``session``  what the product takes for its connections: each statement is a step, and may break
``store``    objects in memory, and files without Parquet
``chain``    blocks that are only hashes, with a reorg in them
``process``  a process that can be killed, or stopped for longer than its leases live
``node``     a worker: everything real but its processes; ``writers``: those of its jobs
``control``  what controllers and operators do meanwhile
``site``     a database and its connections, for one run after the other; ``world``: one run with all its parts
``faults``   what goes wrong below processes; ``breakage``: what becomes of them, and in which ``moments``
``schedule`` the seeded choice of what happens next
``checker``  what must hold, in plain SQL, after each commit and at the end
``mutants``  the product with one guard switched off: the checker must notice
``run``      one seed from its start to its verdict; ``batch``: many of them, in several processes
===========  =======================================================================================================

``python -m tests.simulator --seeds 20000`` runs many; ``--first N --seeds 1 --trace`` shows one.
"""
