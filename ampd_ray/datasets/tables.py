"""The names of the tables, for those who need no schemas: Arrow takes a while to import."""

TABLES: tuple[str, ...] = ("blocks", "transactions", "logs")
