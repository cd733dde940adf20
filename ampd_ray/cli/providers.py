"""``ampd providers``: the files that say where blocks come from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ampd_ray.cli.options import AmpDirOption, ConfigOption, JsonOption, open_client
from ampd_ray.cli.output import print_object, print_rows

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="JSON-RPC providers: where blocks come from.")


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


@app.command("add", epilog=ADD_EXAMPLES)
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name; the file is <name>.toml.")],
    url: Annotated[str, typer.Option("--url", help="http(s)://, ws(s):// or ipc:// address.")],
    network: Annotated[str, typer.Option("--network", help="Network that it serves, as in the manifests.")],
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
    keys = {
        "auth_token": auth_token,
        "rpc_batch_size": batch,
        "rate_limit_per_minute": rate,
        "ampd_ray": None if integrity is None else {"integrity": integrity.value},
    }
    with open_client(ctx, config, amp_dir) as client:
        client.add_provider(
            name, replace=replace, kind="evm-rpc", network=network, url=url,
            **{key: value for key, value in keys.items() if value is not None},
        )  # fmt: skip
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
        empty="no providers yet; add one: ampd providers add NAME --network NETWORK --url URL",
    )  # fmt: skip
