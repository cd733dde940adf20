"""``ampd head``: what the rows of a table look like."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from ampd_ray.cli import completion
from ampd_ray.cli.grid import grid, records
from ampd_ray.cli.options import AmpDirOption, ConfigOption, JsonOption, open_client
from ampd_ray.cli.output import examples
from ampd_ray.cli.sql import print_json
from ampd_ray.datasets.names import meant
from ampd_ray.datasets.tables import TABLES
from ampd_ray.errors import UsageError

HEAD_EXAMPLES = examples(
    "ampd head _/mainnet.logs",
    "ampd head mainnet.blocks --tail --rows 3",
    "ampd head acme/eth@1.0.0.transactions --columns block_num,tx_hash,value --json",
)


def head(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(help="NAMESPACE/NAME[@REVISION].TABLE.", autocompletion=completion.tables)],
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many.")] = 5,
    tail: Annotated[bool, typer.Option("--tail", help="The last rows instead of the first.")] = False,
    columns: Annotated[str | None, typer.Option("--columns", help="Comma list of columns; all by default.")] = None,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the first rows of a table, or the last."""
    name, dot, of_table = table.rpartition(".")
    if not dot:
        raise UsageError(f"{table!r} names no table: write {table}.logs, or .blocks, or .transactions")
    if of_table not in TABLES:
        raise UsageError(f"there is no table {of_table!r}: the tables are {', '.join(TABLES)}{meant(of_table, TABLES)}")
    wanted = [column.strip() for column in columns.split(",")] if columns else None
    with open_client(ctx, config, amp_dir) as client:
        dataset = client.dataset(name)
        found = dataset.head(of_table, rows, wanted, tail=tail)
    if as_json:
        print_json(found.column_names, records(found))
    elif found.num_rows:
        typer.echo("\n".join(grid(found.column_names, records(found), shutil.get_terminal_size().columns)))
    else:
        typer.echo(f"{dataset.name} has no rows of {of_table} yet")
