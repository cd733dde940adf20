"""The metadata database: typed verbs over Postgres, each module with its ``.sql`` beside it.

The only package that imports psycopg. Verbs take an open connection (``connection.Database``) and return frozen
values; what they promise is in ``spec/metadata-db.md``. ``schema`` makes and checks the tables, ``workers``,
``jobs``, ``leases``, ``datasets``, ``revisions``, ``files`` and ``progress`` read and write them,
``notifications`` carries the hints, ``embedded`` runs a private server.
"""
