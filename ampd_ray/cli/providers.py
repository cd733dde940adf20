"""``ampd providers``: the files that say where blocks come from."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from ampd_ray.cli import completion
from ampd_ray.cli.options import (
    AmpDirOption,
    ConfigOption,
    JsonOption,
    NewNetworkOption,
    again,
    network_name,
    open_client,
)
from ampd_ray.cli.output import examples, print_object, print_rows
from ampd_ray.errors import ConfigError, JobConflict, UsageError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="JSON-RPC providers: where blocks come from.",
    epilog=examples("ampd providers list", "ampd providers show mainnet", "ampd providers rm mainnet"),
)


class Integrity(StrEnum):
    """How much of an answer is held against the block's header."""

    STRICT = "strict"
    BASIC = "basic"


ADD_EXAMPLES = """\b
Examples:
  ampd providers add mainnet --network mainnet --url https://eth.example.com
  ampd providers add mainnet --network mainnet --url https://eth.example.com --auth-token '${RPC_TOKEN}' --batch 50
\b
A value ${NAME} is read from the environment when the provider is used, so that no secret stands in the file."""

LIST_EXAMPLES = """\b
Examples:
  ampd providers list
  ampd providers list --json"""


SHOW_EXAMPLES = examples("ampd providers show mainnet", "ampd providers show mainnet --json")

REMOVE_EXAMPLES = examples("ampd providers rm mainnet")

NameArgument = Annotated[str, typer.Argument(help="Its name.", autocompletion=completion.providers)]


@app.command("add", epilog=ADD_EXAMPLES)
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name; the file is <name>.toml.")],
    url: Annotated[str, typer.Option("--url", help="http(s)://, ws(s):// or ipc:// address.")],
    network: Annotated[
        str,
        typer.Option(
            "--network", help="Network that it serves, as in the manifests.", autocompletion=completion.networks
        ),
    ],
    new_network: NewNetworkOption = False,
    auth_token: Annotated[str | None, typer.Option("--auth-token", help="Sent as a Bearer token.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=0, help="Calls in one request; 0: one each.")] = None,
    rate: Annotated[int | None, typer.Option("--rate-limit-per-minute", min=1, help="Requests a minute.")] = None,
    integrity: Annotated[
        Integrity | None, typer.Option("--integrity", help="basic for chains that do not follow Ethereum's roots.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a different file of that name.")] = False,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a provider file."""
    network_name(network, new_network)
    keys = {
        "auth_token": auth_token,
        "rpc_batch_size": batch,
        "rate_limit_per_minute": rate,
        "ampd_ray": None if integrity is None else {"integrity": integrity.value},
    }
    given = {key: value for key, value in keys.items() if value is not None}
    with open_client(ctx, config, amp_dir) as client:
        try:
            client.add_provider(name, replace=replace, kind="evm-rpc", network=network, url=url, **given)
        except ConfigError as error:
            raise UsageError(error.message) from None
    print_object({"provider": name, "network": network}, as_json=as_json)


@app.command("list", epilog=LIST_EXAMPLES)
def list_(
    ctx: typer.Context, config: ConfigOption = None, amp_dir: AmpDirOption = None, as_json: JsonOption = False
) -> None:  # fmt: skip
    """List the provider files; unusable ones with their reason. Addresses are shown as hosts."""
    with open_client(ctx, config, amp_dir) as client:
        rows = [provider.describe() for provider in client.providers()]
    print_rows(
        rows, ["name", "kind", "network", "host", "error"], as_json=as_json,
        empty=f"no providers yet; add one: {again(ctx, 'providers add NAME --network NETWORK --url URL')}",
    )  # fmt: skip


@app.command("show", epilog=SHOW_EXAMPLES)
def show(
    ctx: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a provider file without its secrets, and which variables of it are set here."""
    from ampd_ray.providers.registry import find_by_name, provider_file

    with open_client(ctx, config, amp_dir) as client:
        directory = client.settings.providers_dir
        found = find_by_name(directory, name)
    variables = {variable: variable in os.environ for variable in found.variables()}
    fields = {
        "name": found.name,
        "file": provider_file(directory, name),
        "kind": found.kind,
        "network": found.network,
        "host": found.host,
        "auth_token": found.auth_token is not None,
        "rpc_batch_size": found.rpc_batch_size,
        "rate_limit_per_minute": found.rate_limit_per_minute,
        "concurrent_request_limit": found.concurrent_request_limit,
        "timeout_secs": found.timeout_secs,
        "integrity": found.ampd_ray.integrity,
        "variables": variables,
    }
    shown = {"auth_token": "yes" if found.auth_token else "none", "variables": _variables(variables)}
    print_object(fields if as_json else fields | shown, as_json=as_json)


def _variables(found: dict[str, bool]) -> str:
    return ", ".join(f"{name} ({'set' if there else 'not set here'})" for name, there in found.items()) or "none"


@app.command("rm", epilog=REMOVE_EXAMPLES)
def remove(
    ctx: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a provider file that no active job is bound to."""
    from ampd_ray.providers.registry import remove_provider

    with open_client(ctx, config, amp_dir) as client:
        for row in client.jobs(active_only=True):
            if isinstance(row.descriptor, dict) and row.descriptor.get("provider") == name:
                stop = again(ctx, f"jobs stop {row.job_id} --wait 30")
                raise JobConflict(f"job {row.job_id} is bound to provider {name}; stop it first: {stop}")
        remove_provider(client.settings.providers_dir, name)
    print_object({"provider": name, "removed": True}, as_json=as_json)
