"""``ampd workers``: who is there to do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ampd_ray.cli.options import AmpDirOption, ConfigOption, JsonOption, again, open_client
from ampd_ray.cli.output import examples, print_rows

if TYPE_CHECKING:
    from ampd_ray.metadb.workers import WorkerRow

LIST_EXAMPLES = examples("ampd workers list", "ampd workers list --json")

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Workers: who is alive.", epilog=examples("ampd workers list")
)


@app.command("list", epilog=LIST_EXAMPLES)
def list_(
    ctx: typer.Context, config: ConfigOption = None, amp_dir: AmpDirOption = None, as_json: JsonOption = False
) -> None:  # fmt: skip
    """List all workers that ever registered: alive, draining, ended (by itself) or dead."""
    with open_client(ctx, config, amp_dir) as client:
        rows: list[dict[str, Any]] = [
            {
                "node_id": w.node_id,
                "state": state(w),
                "jobs": w.active_jobs,
                "heartbeat_at": w.heartbeat_at,
                "registered_at": w.registered_at,
                "implementation": w.info.get("implementation", "amp"),
                "version": w.info.get("version"),
            }
            for w in client.workers()
        ]
    print_rows(
        rows, ["node_id", "state", "jobs", "heartbeat_at", "implementation", "version"], as_json=as_json,
        empty=f"no workers yet; start one: {again(ctx, 'worker --node-id ID')}",
    )  # fmt: skip


def state(worker: WorkerRow) -> str:
    """What a worker is, in a word. One that ends makes its heartbeat look old first, so that is asked last."""
    if worker.ended:
        return "ended"
    if worker.draining:
        return "draining"
    return "alive" if worker.alive else "dead"
