"""``ampd``: the commands, their common options, and how errors reach a person."""

from __future__ import annotations

import errno
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
    deploy,
    devnet,
    head,
    jobs,
    providers,
    solo,
    sql,
    verify,
    worker,
    workers,
)
from ampd_ray.cli.options import ConfigOption, remember_config
from ampd_ray.cli.output import print_error, print_failure
from ampd_ray.errors import AmpdError, Interrupted, StoreError, Unexpected, UsageError

logger = logging.getLogger(__name__)


# The order in which people need them.
FIRST = "First steps"
DATA = "Jobs and data"
OPERATE = "Operation"


class AmpdGroup(TyperGroup):
    """Turns errors into a message and an exit code (``spec/metadata-db.md`` 9.4); lists commands by what they are for.

    With ``--json`` the message is a JSON object. What is no ``AmpdError`` is a bug: people see its kind, the log has
    the rest.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the command line; typer ends without a word where that is interrupted."""
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(Interrupted.exit_code) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        as_json = "--json" in ctx.args  # known before the command's own words are understood, and also if they are not
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise  # typer knows what to do
        except TyperException as error:
            if not as_json:
                raise
            print_failure(UsageError.code, error.format_message(), error.exit_code)
            raise typer.Exit(error.exit_code) from None
        except AmpdError as error:
            logger.debug("the command failed", exc_info=error)
            print_error(error, as_json=as_json)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            if as_json:
                print_error(Interrupted("interrupted"), as_json=True)
            else:
                typer.echo("interrupted", err=True)
            raise typer.Exit(Interrupted.exit_code) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                print_error(StoreError(f"cannot write: {error.strerror}"), as_json=as_json)
                raise typer.Exit(StoreError.exit_code) from None
            logger.info("a bug", exc_info=error)  # in the log of what runs for long; elsewhere with AMP_LOG=debug
            logged = logger.isEnabledFor(logging.INFO)
            where = "the log above says" if logged else "AMP_LOG=debug shows"
            bug = Unexpected(
                f"unexpected {type(error).__name__}: this is a bug in ampd-ray; {where} where it happened. "
                "Please report it."
            )
            print_error(bug, as_json=as_json)
            raise typer.Exit(bug.exit_code) from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A section of the help for each purpose, in the order of their first command."""
        shown: list[Any] = [command for command in self.commands.values() if not command.hidden]
        width = formatter.width - 6 - max(len(command.name or "") for command in shown)
        for purpose in dict.fromkeys(command.rich_help_panel for command in shown):
            with formatter.section(purpose):
                formatter.write_dl(
                    (command.name, command.get_short_help_str(width))
                    for command in shown
                    if command.rich_help_panel == purpose
                )


app = typer.Typer(
    cls=AmpdGroup,
    name="ampd",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  ampd demo                                                  # start here
  ampd backfill --rpc http://127.0.0.1:8545 --blocks 0:1000
  ampd jobs watch 1
\b
Exit code: 0 if all is well, 1 if something went wrong or is missing, 2 if the command line is wrong, 3 if another
process has what this one needs, 130 after Ctrl-C where a command says nothing else. With --json an error is one JSON
object on stderr.""",
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
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours; NO_COLOR does the same.")] = False,
) -> None:
    """Extract blockchains into Parquet that an Amp server reads, exactly once."""
    if no_color:
        os.environ["NO_COLOR"] = "1"  # for what this starts, too
    log.setup(os.environ.get("AMP_LOG") or "warn")
    remember_config(ctx, config)


app.command("demo", epilog=demo.EXAMPLES, rich_help_panel=FIRST)(demo.demo)
app.command("backfill", epilog=backfill.EXAMPLES, rich_help_panel=FIRST)(backfill.backfill)
app.command("devnet", epilog=devnet.EXAMPLES, rich_help_panel=FIRST)(devnet.devnet)
app.add_typer(jobs.app, name="jobs", rich_help_panel=DATA)
app.add_typer(datasets.app, name="datasets", rich_help_panel=DATA)
app.command("coverage", epilog=coverage.COVERAGE_EXAMPLES, rich_help_panel=DATA)(coverage.coverage)
app.command("sql", epilog=sql.SQL_EXAMPLES, rich_help_panel=DATA)(sql.sql)
app.command("head", epilog=head.HEAD_EXAMPLES, rich_help_panel=DATA)(head.head)
app.command("check", epilog=check.EXAMPLES, rich_help_panel=DATA)(check.check)
app.command("verify", epilog=verify.EXAMPLES, rich_help_panel=DATA)(verify.verify)
app.command("solo", epilog=solo.SOLO_EXAMPLES, rich_help_panel=OPERATE)(solo.solo)
app.command("dev", hidden=True)(solo.solo)
app.command("migrate", epilog=worker.MIGRATE_EXAMPLES, rich_help_panel=OPERATE)(worker.migrate)
app.command("worker", epilog=worker.WORKER_EXAMPLES, rich_help_panel=OPERATE)(worker.worker)
app.add_typer(workers.app, name="workers", rich_help_panel=OPERATE)
app.add_typer(providers.app, name="providers", rich_help_panel=OPERATE)
app.command("deploy", epilog=deploy.EXAMPLES, rich_help_panel=OPERATE)(deploy.deploy)
