"""``ampd``: the commands, their common options, and how errors reach a person."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from ampd_ray import __version__, log
from ampd_ray.cli import (
    backfill,
    check,
    coverage,
    datasets,
    demo,
    devnet,
    head,
    jobs,
    providers,
    solo,
    sql,
    verify,
    worker,
)
from ampd_ray.cli.options import ConfigOption, remember_config
from ampd_ray.cli.output import print_error
from ampd_ray.errors import AmpdError

logger = logging.getLogger(__name__)


class AmpdGroup(TyperGroup):
    """Turns errors into a message and an exit code (``spec/metadata-db.md`` 9.4).

    What is no ``AmpdError`` is a bug: people see its kind, the log has the rest.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException, BrokenPipeError):
            raise  # typer knows what to do
        except AmpdError as error:
            logger.debug("the command failed", exc_info=error)
            print_error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(1) from None
        except Exception as error:
            logger.info("a bug", exc_info=error)  # in the log of what runs for long; elsewhere with AMP_LOG=debug
            logged = logger.isEnabledFor(logging.INFO)
            where = "the log above says" if logged else "AMP_LOG=debug shows"
            typer.echo(
                f"error: unexpected {type(error).__name__}: this is a bug in ampd-ray; {where} where it happened. "
                "Please report it.",
                err=True,
            )
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=AmpdGroup,
    name="ampd",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start here: ampd demo",
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
    log.setup(os.environ.get("AMP_LOG") or "warn")
    remember_config(ctx, config)


app.command("backfill", epilog=backfill.EXAMPLES)(backfill.backfill)
app.command("solo", epilog=solo.SOLO_EXAMPLES)(solo.solo)
app.command("dev", hidden=True)(solo.solo)
app.command("worker", epilog=worker.WORKER_EXAMPLES)(worker.worker)
app.command("migrate", epilog=worker.MIGRATE_EXAMPLES)(worker.migrate)
app.command("deploy", epilog=jobs.DEPLOY_EXAMPLES)(jobs.deploy)
app.command("coverage", epilog=coverage.COVERAGE_EXAMPLES)(coverage.coverage)
app.command("sql", epilog=sql.SQL_EXAMPLES)(sql.sql)
app.command("head", epilog=head.HEAD_EXAMPLES)(head.head)
app.command("check", epilog=check.EXAMPLES)(check.check)
app.command("verify", epilog=verify.EXAMPLES)(verify.verify)
app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
app.command("devnet", epilog=devnet.EXAMPLES)(devnet.devnet)
app.add_typer(jobs.app, name="jobs")
app.add_typer(jobs.workers_app, name="workers")
app.add_typer(datasets.app, name="datasets")
app.add_typer(providers.app, name="providers")


def main() -> None:
    """The entry point of the console script."""
    app()
