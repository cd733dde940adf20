"""How a backfill begins, on a real database and a devnet: whom it asks, which blocks are meant, which job does it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ampd_ray as amp
from ampd_ray.cli import backfill as command
from ampd_ray.cli.app import app
from ampd_ray.client import Client, Job
from ampd_ray.client.prepare import Prepared, prepare, provide
from ampd_ray.client.request import BackfillRequest
from ampd_ray.client.session_calls import SessionCalls
from ampd_ray.config import create_directories, load_settings
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb import workers
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.devnet import Devnet

OPERATORS = """kind = "evm-rpc"
network = "devnet"
url = "http://10.0.0.1:1/"
auth_token = "${TOKEN}"
rate_limit_per_minute = 60
"""


@pytest.fixture
def client(pg_url: str, tmp_path: Path) -> Iterator[Client]:
    """A session whose one worker is registered, and does nothing."""
    settings = load_settings(None, {"AMP_CONFIG_METADATA_DB_URL": pg_url}, solo_dir=tmp_path)
    create_directories(settings)
    with Client(settings) as client:

        async def register() -> None:
            async with client.db.connection() as conn:
                await workers.register(conn, "one", {"implementation": "ampd-ray"})

        client.run(register())
        yield client


def files(tmp_path: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in (tmp_path / "providers").iterdir()}


# -- providers ------------------------------------------------------------------------------------------------------


def test_no_provider_file_is_ever_changed_and_the_job_is_bound_to_the_address_that_was_given(
    client: Client, tmp_path: Path, devnet: Devnet
) -> None:
    for name in ("alchemy", "devnet"):
        (tmp_path / "providers" / f"{name}.toml").write_text(OPERATORS)
    run = amp.backfill(client, rpc=devnet.url, blocks="0:10")
    made = files(tmp_path)
    assert (made.pop("alchemy"), made.pop("devnet")) == (OPERATORS, OPERATORS)
    ((name, text),) = made.items()
    assert name == run.provider
    assert devnet.url in text
    assert run.descriptor().provider == run.provider
    assert run.other_provider is None


def test_a_file_that_says_the_same_is_used_whatever_its_name_and_what_else_stands_in_it(
    client: Client, tmp_path: Path, devnet: Devnet
) -> None:
    text = OPERATORS.replace("http://10.0.0.1:1/", devnet.url)
    (tmp_path / "providers" / "alchemy.toml").write_text(text)
    assert amp.backfill(client, rpc=devnet.url, blocks="0:10").provider == "alchemy"
    assert files(tmp_path) == {"alchemy": text}


def test_networks_and_addresses_that_look_alike_have_files_of_their_own(client: Client, tmp_path: Path) -> None:
    asked = [("a-b", "http://h:1/"), ("a_b", "http://h:1/"), ("a.b", "http://h:1/"), ("a-b", "http://h:2/")]

    def names() -> list[str]:
        return [provide(client, "a_b", network, BackfillRequest(url, "0:1")) for network, url in asked]

    first = names()
    assert first[0] == "a_b"
    assert len({*first}) == len(files(tmp_path)) == len(asked)
    assert names() == first


def test_a_job_at_work_keeps_its_provider_and_the_backfill_knows(client: Client, devnet: Devnet) -> None:
    first = amp.backfill(client, rpc=devnet.url, blocks="0:10")
    second = amp.backfill(client, rpc=f"{devnet.url}/?other", blocks="0:10")
    assert second.id == first.id
    assert second.provider != first.provider == second.other_provider


def test_a_stopped_backfill_goes_on_with_another_provider(client: Client, devnet: Devnet) -> None:
    first = amp.backfill(client, rpc=devnet.url, blocks="0:10")
    end(client, first)
    second = amp.backfill(client, rpc=f"{devnet.url}/?other", blocks="0:10")
    assert (second.id, second.other_provider) == (first.id, None)
    assert second.descriptor().provider == second.provider != first.provider


# -- ranges and interrupts ------------------------------------------------------------------------------------------


def test_what_a_relative_range_meant_at_first_is_what_is_said_when_it_is_resumed(
    client: Client, devnet_server: Callable[..., Devnet], pg_url: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    chain = devnet_server(50)
    end(client, amp.backfill(client, rpc=chain.url, blocks="-10:"))
    chain.mine(5)
    (tmp_path / "amp.toml").write_text(f'[metadata_db]\nurl = "{pg_url}"\n')
    monkeypatch.setattr(Job, "outcome", interrupt)
    err = cli(capsys, "backfill", "--config", tmp_path / "amp.toml", "--rpc", chain.url, "--blocks", "-10:")
    first, second, *_ = err.splitlines()
    assert first == "devnet (chain 1337), head 55"
    assert second == "blocks 41 to 50, which is what -10: meant when this was started"


def test_another_first_block_makes_another_revision_and_that_is_said(
    client: Client, devnet: Devnet, pg_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    end(client, amp.backfill(client, rpc=devnet.url, blocks="0:10"))
    before = client.manifest(DatasetRef("_", "devnet")).hash
    config = tmp_path / "amp.toml"
    config.write_text(f'[metadata_db]\nurl = "{pg_url}"\n')
    monkeypatch.setattr(Job, "outcome", interrupt)
    monkeypatch.setattr(command, "STOP_WITHIN_SECS", 0.0)
    for blocks, told in (("0:9", False), ("5:10", True)):
        err = cli(capsys, "backfill", "--config", config, "--rpc", devnet.url, "--blocks", blocks)
        line = (
            "another revision of _/devnet, with files of its own: it starts at block 5, the one before at 0; "
            f"that one: ampd datasets show _/devnet@{before} --config {config}"
        )
        assert (line in err.splitlines()) is told
        for row in client.jobs(active_only=True):
            end(client, client.job(row.job_id))


def test_an_interrupt_right_after_the_deployment_leaves_the_job_and_the_same_call_finds_it(
    client: Client, devnet: Devnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy = SessionCalls.deploy

    async def deploy_and_interrupt(*args: Any) -> None:
        await deploy(*args)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr(SessionCalls, "deploy", deploy_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        amp.backfill(client, rpc=devnet.url, blocks="0:10")
    monkeypatch.undo()
    (row,) = client.jobs()
    assert row.status is JobStatus.SCHEDULED
    assert amp.backfill(client, rpc=devnet.url, blocks="0:10").id == row.job_id
    assert len(client.job(row.job_id).events()) == 1


def test_an_interrupt_right_after_the_deployment_stops_the_job_of_the_command(
    client: Client, devnet: Devnet, pg_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "amp.toml").write_text(f'[metadata_db]\nurl = "{pg_url}"\n')
    monkeypatch.setattr(Prepared, "start", start_and_interrupt(Prepared.start))
    monkeypatch.setattr(command, "STOP_WITHIN_SECS", 0.0)
    err = cli(capsys, "backfill", "--config", tmp_path / "amp.toml", "--rpc", devnet.url, "--blocks", "0:10", code=1)
    assert "stopping: complete blocks are committed first" in err
    assert "has not stopped within 0 s; the same command again resumes" in err
    (row,) = client.jobs()
    assert row.status is JobStatus.STOP_REQUESTED


def test_an_interrupt_before_the_deployment_leaves_no_job(
    client: Client, devnet: Devnet, pg_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "amp.toml").write_text(f'[metadata_db]\nurl = "{pg_url}"\n')
    monkeypatch.setattr(Prepared, "start", interrupt)
    err = cli(capsys, "backfill", "--config", tmp_path / "amp.toml", "--rpc", devnet.url, "--blocks", "0:10")
    assert "interrupted before there was a job" in err
    assert client.jobs() == []


def test_a_prepared_backfill_finds_its_job_whoever_deployed_it(client: Client, devnet: Devnet) -> None:
    prepared = prepare(client, BackfillRequest(devnet.url, "0:10"))
    assert prepared.active_job() is None
    run = prepared.start()
    found = prepared.active_job()
    assert found is not None
    assert found.id == run.id


def end(client: Client, job: Job) -> None:
    """Stop it as its worker would."""
    job.stop()

    async def stopped() -> None:
        async with client.db.connection() as conn:
            await conn.execute("update jobs_status set status = 'STOPPED' where job_id = %s", [job.id])

    client.run(stopped())


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def start_and_interrupt(start: Callable[[Prepared], Job]) -> Callable[[Prepared], Job]:
    def started(prepared: Prepared) -> Job:
        start(prepared)
        raise KeyboardInterrupt

    return started


def cli(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 130) -> str:
    """Run a command in this process that ends with ``code``; what it said on stderr."""
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words])
    assert ended.value.code == code
    return capsys.readouterr().err
