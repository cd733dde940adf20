"""``ampd``: the commands, their common options, and how errors reach a person."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ampd_ray import __version__
from ampd_ray.cli import backfill, datasets, devnet, jobs, providers, worker
from ampd_ray.cli.options import ConfigOption, remember_config
from ampd_ray.errors import AmpdError, chain_of


class AmpdGroup(TyperGroup):
    """Turns an ``AmpdError`` into its message, its causes and its exit code; anything else is a bug and shows it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except AmpdError as error:
            message, *causes = chain_of(error)
            typer.echo(f"error: {message}", err=True)
            for cause in causes:
                if cause not in message:
                    typer.echo(f"  caused by: {cause}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=AmpdGroup,
    name="ampd",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start here: ampd devnet --blocks 1000, then in another terminal: "
    "ampd backfill --rpc http://127.0.0.1:8545 --blocks 0:1000",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ampd-ray {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Extract blockchains into Parquet that an Amp server reads, exactly once."""
    remember_config(ctx, config)


app.command("backfill", epilog=backfill.EXAMPLES)(backfill.backfill)
app.command("solo", epilog=worker.SOLO_EXAMPLES)(worker.solo)
app.command("dev", hidden=True)(worker.solo)
app.command("worker", epilog=worker.WORKER_EXAMPLES)(worker.worker)
app.command("migrate", epilog=worker.MIGRATE_EXAMPLES)(worker.migrate)
app.command("deploy", epilog=jobs.DEPLOY_EXAMPLES)(jobs.deploy)
app.command("devnet", epilog=devnet.EXAMPLES)(devnet.devnet)
app.add_typer(jobs.app, name="jobs")
app.add_typer(jobs.workers_app, name="workers")
app.add_typer(datasets.app, name="datasets")
app.add_typer(providers.app, name="providers")


def main() -> None:
    """The entry point of the console script."""
    app()
