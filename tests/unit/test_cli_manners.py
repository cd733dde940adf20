"""How the command line speaks: errors for programs, hints that can be typed, colours, values for a shell."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import ampd_ray.client.request
from ampd_ray import log
from ampd_ray.chain.ranges import Span
from ampd_ray.cli import backfill, completion
from ampd_ray.cli.app import app
from ampd_ray.cli.display import Display
from ampd_ray.cli.options import again
from ampd_ray.cli.output import print_object, print_rows
from ampd_ray.datasets import names
from ampd_ray.datasets.manifest import evm_rpc_manifest, parse_manifest
from ampd_ray.datasets.networks import misspelt
from ampd_ray.errors import Interrupted, InvalidManifest, InvalidName, StoreError, Unexpected
from ampd_ray.store.files import open_store
from tests.fakes.command_line import ROOT
from tests.fakes.object_stores import S3Server

NOBODY = {"AMP_CONFIG": None, "AMP_DIR": None}


def failed(*arguments: str) -> tuple[int, Any]:
    """The exit code, and the one JSON object on stderr; stdout is empty."""
    result = CliRunner().invoke(app, list(arguments), env=NOBODY)
    assert result.stdout == ""
    return result.exit_code, json.loads(result.stderr)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "exit_code", "code", "told"),
    [
        ("jobs show one --json", 2, "USAGE", "'one' is no job id: it is a number, see `ampd jobs list`"),
        ("jobs watch 0 --json", 2, "USAGE", "'0' is no job id"),
        ("backfill --rpc http://127.0.0.1:1 --blocks 0:9 --json", 1, "RPC_UNREACHABLE", "A chain to try: ampd devnet"),
        ("jobs show 1 --json --no-such-option", 2, "USAGE", "--no-such-option"),
        ("backfill --json", 2, "USAGE", "--rpc"),
        ("backfill --rpc http://127.0.0.1:1 --blocks 9:3 --json", 2, "INVALID_RANGE", "Write 3:9"),
        ("backfill --rpc http://127.0.0.1:1 --blocks 0:9 --config a --amp-dir b --json", 2, "USAGE", "either --config"),
        ("verify Nothing! --json", 2, "INVALID_NAME", "Nothing!"),
        ("jobs list --amp-dir /no/such/place --json", 2, "USAGE", "no solo environment in /no/such/place: give"),
        ("jobs list --config /no/such/file --json", 1, "INVALID_CONFIG", "/no/such/file"),
    ],
)
def test_with_json_an_error_is_one_object_on_stderr(line: str, exit_code: int, code: str, told: str) -> None:
    got, said = failed(*line.split())
    assert got == exit_code
    assert {**said["error"], "message": ""} == {"code": code, "message": "", "exit_code": exit_code}
    assert told in said["error"]["message"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--every-node --node-id w1 --address auto", "leave out --node-id, and AMP_NODE_ID"),
        ("--every-node", "--every-node needs a Ray cluster: give --address HOST:PORT"),
        ("--node-id w1 --node-prefix amp-", "--node-prefix is for the names of --every-node"),
        ("--every-node --node-prefix no/path --address auto", "no/path0"),
    ],
)
def test_a_worker_is_named_in_one_way(tmp_path: Path, line: str, told: str) -> None:
    config = tmp_path / "amp.toml"
    config.write_text('[metadata_db]\nurl = "postgresql://amp@127.0.0.1:1/amp"\n')
    unset = {"AMP_NODE_ID": None, "RAY_ADDRESS": None}
    result = CliRunner().invoke(app, ["worker", "--config", str(config), *line.split()], env=NOBODY | unset)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_a_bug_a_full_disk_and_an_interrupt_are_objects_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for raised, kind in (
        (KeyError("https://u:secret@host/"), Unexpected),
        (OSError(errno.ENOSPC, "No space left on device"), StoreError),
        (KeyboardInterrupt(), Interrupted),
    ):

        def probe(request: object, raised: BaseException = raised) -> None:
            raise raised

        monkeypatch.setattr(ampd_ray.client.request, "probe", probe)
        got, said = failed("backfill", "--rpc", "http://127.0.0.1:1", "--blocks", "0:9", "--json")
        assert (got, said["error"]["code"], said["error"]["exit_code"]) == (kind.exit_code, kind.code, kind.exit_code)
        assert "secret" not in str(said)


def test_an_interrupt_while_modules_are_imported_is_a_line_too() -> None:
    code = """if True:
        import sys
        class Press:
            def find_spec(self, name, *rest):
                if name == "typer":
                    raise KeyboardInterrupt
        sys.meta_path.insert(0, Press())
        from ampd_ray.cli import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_an_interrupt_while_the_command_line_is_read_is_a_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperGroup.make_context", pressed)
    result = CliRunner().invoke(app, ["jobs", "list"], env=NOBODY)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_where_there_is_no_environment_all_ways_to_name_one_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["jobs", "list"], ["coverage", "_/x"], ["jobs", "retry", "1"], ["deploy", "_/x"]):
        result = CliRunner().invoke(app, command, env=NOBODY)
        assert (result.exit_code, result.stderr) == (
            2,
            "error: there is no solo environment in ./.amp: run `ampd backfill` here, or go to where you ran it; or "
            "name one with --amp-dir DIR (AMP_DIR), or a configured database with --config PATH (AMP_CONFIG)\n",
        )
    (tmp_path / ".amp").mkdir()
    assert "in ./.amp: run" in CliRunner().invoke(app, ["jobs", "list"], env=NOBODY).stderr
    away = CliRunner().invoke(app, ["jobs", "list"], env=NOBODY | {"AMP_DIR": "away"})
    assert (away.exit_code, "in away (AMP_DIR): run" in away.stderr) == (2, True)
    assert not (tmp_path / "away").exists()


@pytest.mark.parametrize(("status", "told"), [("COMPLETED", None), ("STOPPED", backfill.STOPPED), ("RUNNING", None)])
def test_a_backfill_whose_job_was_stopped_elsewhere_says_how_to_go_on(status: str, told: str | None) -> None:
    job = SimpleNamespace(
        id=1, other_provider=None, outcome=lambda on_progress: None, status=lambda: status, failure=lambda: None
    )
    prepared: Any = SimpleNamespace(
        start=lambda: job, covered=0, dataset=SimpleNamespace(dataset="_/x"), network="x", span=Span(0, 9), tables=()
    )
    context = ROOT.make_context("ampd", ["jobs", "list"])
    failure = backfill._run(context, prepared, Display(io.StringIO(), quiet=True))[1]
    assert (failure and failure.message) == told


# -- hints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("jobs holes 7", "ampd jobs retry 7"),
        ("jobs holes 7 --amp-dir chains", "ampd jobs retry 7 --amp-dir chains"),
        ("jobs holes 7 --config amp.toml", "ampd jobs retry 7 --config amp.toml"),
        ("-c 'a b.toml' jobs holes 7", "ampd jobs retry 7 --config 'a b.toml'"),
    ],
)
def test_a_hint_can_be_typed_as_it_is(line: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def shown(ctx: typer.Context, *_: object) -> None:
        said.append(again(ctx, "jobs retry 7"))
        raise typer.Exit

    monkeypatch.setattr("ampd_ray.cli.jobs.open_client", shown)
    CliRunner().invoke(app, line.replace("'a b.toml'", "a_b.toml").split(), env=NOBODY)
    assert said == [told.replace("'a b.toml'", "a_b.toml")]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("jobs list", "ampd backfill --rpc URL --blocks RANGE"),
        ("jobs list --amp-dir chains", "ampd backfill --rpc URL --blocks RANGE --amp-dir chains"),
        ("jobs list --config amp.toml", "ampd deploy NAMESPACE/NAME --config amp.toml"),
    ],
)
def test_where_there_are_no_jobs_the_first_one_is_proposed(
    line: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = SimpleNamespace(jobs=lambda **_: [])
    monkeypatch.setattr("ampd_ray.cli.jobs.open_client", lambda *_: contextlib.nullcontext(empty))
    result = CliRunner().invoke(app, line.split(), env=NOBODY)
    assert result.stdout == f"no jobs yet; the first one: {told}\n"


def test_a_path_that_a_shell_would_split_is_quoted() -> None:
    context = ROOT.make_context("ampd", ["jobs", "list"])
    context.obj = {"config": None}
    context.params["amp_dir"] = Path("my chains")
    assert again(context, "jobs list") == "ampd jobs list --amp-dir 'my chains'"


# -- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mainet", "mainnet"), ("Mainnet", "mainnet"), ("arbitrum", "arbitrum_one"), ("base-sepolia", "base_sepolia"),
        ("devent", "devnet"), ("polygn", "polygon"),
        ("mainnet", None), ("chain_7", None), ("base_fork", None), ("devnet2", None), ("acme", None),
    ],
)  # fmt: skip
def test_a_network_that_looks_like_a_known_one_is_noticed(name: str, meant: str | None) -> None:
    assert misspelt(name) == meant


# -- colours and logs -------------------------------------------------------------------------------------------------


def test_no_color_holds_for_what_is_started_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert CliRunner().invoke(app, ["--no-color", "jobs", "list"], env=NOBODY).exit_code == 2
    assert os.environ["NO_COLOR"] == "1"


def test_warnings_can_be_spared_but_not_from_those_who_want_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for level, heard in ((logging.WARNING, False), (logging.DEBUG, True)):
        logger = logging.getLogger("ampd_ray.spared")
        logger.setLevel(level)
        with log.sparing(logger.name):
            assert logger.isEnabledFor(logging.WARNING) is heard
        assert logger.level == level


# -- completion -------------------------------------------------------------------------------------------------------


def completed(*words: str) -> list[str]:
    """What a shell is offered for the last of the words."""
    env = {**NOBODY, "_AMPD_COMPLETE": "complete_bash", "COMP_CWORD": str(len(words)),
           "COMP_WORDS": " ".join(["ampd", *words])}  # fmt: skip
    result = CliRunner().invoke(app, [], env=env, prog_name="ampd")
    assert result.stderr == ""
    return result.stdout.split()


def test_a_shell_completes_commands_networks_and_providers(tmp_path: Path) -> None:
    (tmp_path / "providers").mkdir()
    for name in ("alchemy.toml", "another.toml", "my_node.toml", "notes.txt", ".hidden.toml"):
        (tmp_path / "providers" / name).touch()
    assert completed("jobs", "wat") == ["watch"]
    assert completed("backfill", "--network", "ba") == ["base", "base_sepolia"]
    assert completed("providers", "show", "--amp-dir", str(tmp_path), "a") == ["alchemy", "another"]


def test_a_shell_completes_providers_that_are_in_an_object_store(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**moto.env, "AMP_CONFIG_PROVIDERS_DIR": moto.url("completed")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(completion, "STORE_WITHIN_SECS", 30.0)  # it is about what, not about how soon
    store = open_store(moto.url("completed"))
    for name in ("alchemy.toml", "another.toml", "my_node.toml", "notes.txt"):
        store.write(name, b"")
    assert completed("providers", "show", "a") == ["alchemy", "another"]


def test_without_a_database_that_runs_nothing_is_completed_and_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("=")
    (tmp_path / "away.toml").write_text('[metadata_db]\nurl = "postgresql://127.0.0.1:1/amp"\n')
    began = time.monotonic()
    for where in (f"--amp-dir {tmp_path / 'amp'}", f"--config {tmp_path}/bad.toml", f"--config {tmp_path}/away.toml"):
        assert completed("jobs", "watch", *where.split(), "") == []
        assert completed("check", *where.split(), "_") == []
    assert time.monotonic() - began < 6 * (completion.WITHIN_SECS + 2)
    assert not (tmp_path / "amp").exists()


# -- texts of others --------------------------------------------------------------------------------------------------


def test_what_strangers_write_tells_a_terminal_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"node_id": "one", "version": "\x1b[31m1\n2"}]
    print_rows(rows, ["node_id", "version"], as_json=False, empty="")
    print_object(rows[0], as_json=False)
    said = capsys.readouterr().out
    assert said.splitlines() == ["NODE ID  VERSION", "one       [31m1 2", "node_id  one", "version   [31m1 2"]


@pytest.mark.parametrize("network", ["", " ", "main\x1b[31m", "one\ntwo"])
def test_a_network_is_named_in_one_line(network: str) -> None:
    with pytest.raises(InvalidName):
        names.network(network)
    document = {**json.loads(evm_rpc_manifest("mainnet").canonical_bytes()), "network": network}
    if network.strip():  # Amp takes blanks
        with pytest.raises(InvalidManifest):
            parse_manifest(json.dumps(document).encode())
