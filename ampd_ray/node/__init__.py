"""One Amp node: what it runs, how it stays alive, how it ends (``spec/metadata-db.md`` 4 to 6).

``state`` decides, ``coordinator`` does, ``heartbeat`` holds the node's identity, ``leases`` keeps those of its jobs;
``takeover`` chooses jobs of dead peers, ``claims`` takes them. ``scaling`` and ``sharing`` say how many extractors a
node wants and who gets how many, ``places`` and ``sizes`` where actors stand; ``fleet`` keeps a node on each machine.
"""
