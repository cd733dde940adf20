"""``ampd datasets``: what is extracted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ampd_ray.cli import completion
from ampd_ray.cli.options import (
    AmpDirOption,
    ConfigOption,
    DatasetArgument,
    JsonOption,
    NewNetworkOption,
    again,
    network_name,
    open_client,
)
from ampd_ray.cli.output import examples, joined, print_object, print_rows
from ampd_ray.errors import NotFound, UsageError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Datasets: manifests and their versions.",
    epilog=examples("ampd datasets list", "ampd datasets show _/mainnet"),
)

REGISTER_EXAMPLES = """\b
Examples:
  ampd datasets register _/mainnet --network mainnet --start-block 15000000
  ampd datasets register acme/eth --manifest eth.json --tag 1.0.0"""

LIST_EXAMPLES = """\b
Examples:
  ampd datasets list
  ampd datasets list --json"""

SHOW_EXAMPLES = """\b
Examples:
  ampd datasets show _/mainnet
  ampd datasets show acme/eth@1.0.0 --json"""


@app.command("register", epilog=REGISTER_EXAMPLES)
def register(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(help="NAMESPACE/NAME; _ is the default namespace.")],
    network: Annotated[
        str | None,
        typer.Option(
            "--network", help="Make the complete manifest for this network.", autocompletion=completion.networks
        ),
    ] = None,
    new_network: NewNetworkOption = False,
    start_block: Annotated[int, typer.Option("--start-block", min=0, help="First block, with --network.")] = 0,
    finalized: Annotated[
        bool, typer.Option("--finalized-blocks-only", help="Never extract a block that may be reorganised.")
    ] = False,
    manifest: Annotated[Path | None, typer.Option("--manifest", help="Take this manifest file instead.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Semantic version to give it, e.g. 1.0.0.")] = None,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a manifest under a name; `dev` points to it from now on."""
    from ampd_ray.datasets import names
    from ampd_ray.datasets.manifest import evm_rpc_manifest, parse_manifest
    from ampd_ray.datasets.names import DatasetRef

    if (network is None) == (manifest is None):
        raise UsageError("give either --network NAME or --manifest FILE")
    ref = DatasetRef.parse(dataset)
    if manifest is not None:
        if not manifest.is_file():
            raise NotFound(f"there is no manifest file {manifest}")
        parsed = parse_manifest(manifest.read_bytes())
    else:
        assert network is not None
        parsed = evm_rpc_manifest(network_name(names.network(network), new_network), start_block, finalized)
    with open_client(ctx, config, amp_dir) as client:
        hash_ = client.register_dataset(ref, parsed, tag)
    fields = {"dataset": f"{ref.namespace}/{ref.name}", "manifest_hash": hash_, "network": parsed.network,
              "start_block": parsed.start_block}  # fmt: skip
    print_object(fields, as_json=as_json)


@app.command("list", epilog=LIST_EXAMPLES)
def list_(
    ctx: typer.Context, config: ConfigOption = None, amp_dir: AmpDirOption = None, as_json: JsonOption = False
) -> None:  # fmt: skip
    """List the datasets with their versions."""
    with open_client(ctx, config, amp_dir) as client:
        rows = [
            {"dataset": f"{row.namespace}/{row.name}", "latest": row.latest, "versions": list(row.versions)}
            for row in client.datasets()
        ]
    shown = rows if as_json else [row | {"versions": joined(row["versions"] or [])} for row in rows]
    print_rows(
        shown, ["dataset", "latest", "versions"], as_json=as_json,
        empty=f"no datasets yet; register one: {again(ctx, 'datasets register NAMESPACE/NAME --network NETWORK')}",
    )  # fmt: skip


@app.command("show", epilog=SHOW_EXAMPLES)
def show(
    ctx: typer.Context,
    dataset: DatasetArgument,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the manifest behind a reference."""
    from ampd_ray.datasets.names import DatasetRef

    ref = DatasetRef.parse(dataset)
    with open_client(ctx, config, amp_dir) as client:
        manifest = client.manifest(ref)
    fields = json.loads(manifest.canonical_bytes()) if as_json else {
        "dataset": f"{ref.namespace}/{ref.name}",
        "kind": manifest.kind,
        "network": manifest.network,
        "start_block": manifest.start_block,
        "finalized_blocks_only": manifest.finalized_blocks_only,
        "manifest_hash": manifest.hash,
    }  # fmt: skip
    print_object(fields, as_json=as_json)
