"""``ampd sql``: a query over what is committed."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from itertools import chain, islice
from typing import Annotated, Any

import typer

from ampd_ray.cli import completion
from ampd_ray.cli.grid import grid, records
from ampd_ray.cli.options import AmpDirOption, ConfigOption, JsonOption, again, open_client
from ampd_ray.errors import UsageError

SQL_EXAMPLES = """\b
Examples:
  ampd sql "select count(*) from logs"
  ampd sql "select address, count(*) as n from logs group by all order by n desc limit 10"
  ampd sql "select * from logs where address = from_0x('0xdac17f958d2ee523a2206206994597c13d831ec7')" --blocks 18M:+1000
  ampd sql "select date_trunc('day', timestamp) as day, sum(gas_used) from blocks group by day" --csv
  ampd sql "select count(*) from devnet.logs" --dataset _/mainnet
\b
The tables of the only dataset, or of --dataset, are blocks, transactions and logs; those of another one have its name
before them: devnet.logs, or "acme/eth".logs. The language is DuckDB's, of which a single select is run; to_0x(bytes)
and from_0x(text) convert what is shown as 0x. Needs: pip install 'ampd-ray[notebook]'."""

SHOWN = 50


def sql(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="A select; bytes are shown as 0x.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="NAMESPACE/NAME[@REVISION].", autocompletion=completion.datasets)
    ] = None,
    blocks: Annotated[str | None, typer.Option("--blocks", help="Only rows and files of this range.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rows at most; 50 in a table.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All rows in a table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Query what is committed with SQL."""
    from ampd_ray.client.missing import MissingBlocks
    from ampd_ray.client.query import query as ask
    from ampd_ray.datasets.names import DatasetRef

    if as_csv and as_json:
        raise UsageError("give either --json or --csv")
    if all_ and limit:
        raise UsageError("give either --all or --limit")
    most = None if limit is None else min(limit, sys.maxsize)
    ref = None if dataset is None else DatasetRef.parse(dataset)
    with open_client(ctx, config, amp_dir) as client:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", MissingBlocks)
            schema, batches = ask(client, query, ref, blocks)
        for line in dict.fromkeys(_missing(ctx, each.message) for each in told):
            typer.echo(line, err=True)
        rows = chain.from_iterable(map(records, batches))
        if as_json:
            print_json(schema.names, islice(rows, most))
        elif as_csv:
            print_csv(schema.names, islice(rows, most))
        else:
            _print_table(schema.names, islice(rows, most), None if all_ or limit else SHOWN)


def _missing(ctx: typer.Context, said: Warning | str) -> str:
    from ampd_ray.client.missing import MissingBlocks

    if isinstance(said, MissingBlocks):
        return f"warning: {said.told}: {again(ctx, f'coverage {said.dataset}')}"
    return f"warning: {said}"


def print_json(names: list[str], rows: Iterator[list[Any]]) -> None:
    """A list of objects, each on a line of its own."""
    before = "["
    for row in rows:
        typer.echo(before + json.dumps(dict(zip(names, row, strict=True))), nl=False)
        before = ",\n"
    typer.echo("[]" if before == "[" else "]")


def print_csv(names: list[str], rows: Iterator[list[Any]]) -> None:
    """A header, then the rows; nulls are empty, nested values are JSON."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([json.dumps(value) if isinstance(value, dict | list) else value for value in row])
    sys.stdout.flush()  # what goes wrong with it is told


def _print_table(names: list[str], rows: Iterator[list[Any]], limit: int | None) -> None:
    shown = list(islice(rows, limit))
    typer.echo("\n".join(grid(names, shown, shutil.get_terminal_size().columns)))
    if not shown:
        typer.echo("no rows", err=True)
    elif next(rows, None) is not None:
        typer.echo(f"the first {limit} rows; more: --limit N or --all", err=True)
