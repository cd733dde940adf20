"""``ampd deploy``: have a dataset extracted by the workers that are there."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ampd_ray.cli.display import Display
from ampd_ray.cli.options import (
    AmpDirOption,
    ConfigOption,
    DatasetArgument,
    JsonOption,
    PriorityOption,
    again,
    open_client,
    workers_there,
)
from ampd_ray.cli.output import print_object
from ampd_ray.errors import InvalidDescriptor, UsageError

EXAMPLES = """\b
Examples:
  ampd deploy _/mainnet                          # follow the head
  ampd deploy _/mainnet --end-block latest       # up to the head of now
  ampd deploy acme/eth@1.0.0 --end-block 18000000 --max-writers 4 --worker 'extract-*'
  ampd deploy _/mainnet --end-block 18000000 --priority 20   # twice the extractors of a job without one"""


def deploy(
    ctx: typer.Context,
    dataset: DatasetArgument,
    end_block: Annotated[
        str | None,
        typer.Option(
            "--end-block",
            help="Last block, included (unlike the end of backfill's --blocks); `latest`, or -N: N before the head. "
            "Without it: follow the head.",
        ),
    ] = None,
    max_writers: Annotated[int, typer.Option("--max-writers", min=1, max=65535, help="Files written at a time.")] = 1,
    verify: Annotated[bool, typer.Option("--verify", help="Recompute each block's hash and roots first.")] = False,
    verify_full: Annotated[
        bool, typer.Option("--verify-full", help="The same, with transaction hashes and senders.")
    ] = False,
    priority: PriorityOption = None,
    worker: Annotated[str | None, typer.Option("--worker", help="Node ID, or PREFIX*.")] = None,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Schedule a job that extracts a dataset. An identical active job is left as it is.

    A solo environment is started for it, and ends with it.
    """
    from ampd_ray.datasets.descriptor import JobDescriptor
    from ampd_ray.datasets.names import DatasetRef

    ref = DatasetRef.parse(dataset)
    display = Display(sys.stderr, quiet=as_json)
    with open_client(ctx, config, amp_dir) as client:
        manifest = client.manifest(ref)
        try:
            descriptor = JobDescriptor.of(
                ref, manifest.hash, end_block=end_block, max_writers=max_writers,
                verify=verify or verify_full, verify_level="full" if verify_full else None,
                priority=priority,
            )  # fmt: skip
        except InvalidDescriptor:
            raise UsageError(
                f"--end-block {end_block!r}: give a block's number (it is the last one), latest, or -N for N before "
                "the head; without it the job follows the head"
            ) from None
        with workers_there(ctx, config, amp_dir, display):
            row = client.deploy(descriptor, worker).row()
            fields = {
                "job_id": row.job_id,
                "node_id": row.node_id,
                "status": str(row.status),
                "dataset": descriptor.dataset,
                "blocks": extent(manifest.start_block, end_block),
            }
            print_object(fields, as_json=as_json)
            display.say(f"it goes on in the background; to watch it: {again(ctx, f'jobs watch {row.job_id}')}")


def extent(start: int, end_block: str | None) -> str:
    """The blocks that ``--end-block`` means, in words."""
    if end_block is None:
        return f"{start:,} and on, following the head"
    if end_block == "latest":
        return f"{start:,} to the head as the job finds it"
    if end_block.startswith("-"):
        return f"{start:,} to {int(end_block[1:]):,} before the head as the job finds it"
    return f"{start:,} to {int(end_block):,}, which is included"
