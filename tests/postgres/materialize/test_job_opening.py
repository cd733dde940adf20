"""Before a job starts: manifest, provider, revisions, objects; each problem has its code and names the way out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ampd_ray.datasets.manifest import TABLES, evm_rpc_manifest
from ampd_ray.errors import AmpdError, ProviderMissing
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb import revisions
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.providers.evm_rpc import EvmRpcSource
from tests.fakes.bench import Bench, Run

DONE = JobOutcome(Outcome.COMPLETED)


async def fails(run: Run, step: str, *, retryable: bool, words: str) -> AmpdError:
    outcome = await run()
    assert outcome.outcome is Outcome.FAILED
    assert outcome.error is not None
    assert (outcome.error.details["step"], outcome.error.retryable) == (step, retryable)
    assert words in str(outcome.error)
    assert run.extractors.spans == []
    return outcome.error


async def test_a_manifest_that_is_not_registered(bench: Bench) -> None:
    run = await bench.job(end_block="10")
    assert await bench.execute("delete from manifest_files") == 1
    await fails(run, "GET_DATASET", retryable=False, words="is not in this database; register the dataset again")


async def test_a_manifest_whose_object_is_gone(bench: Bench) -> None:
    run = await bench.job(end_block="10")
    bench.manifests.delete(bench.manifest.hash)
    await fails(run, "GET_DATASET", retryable=False, words="is not in manifests_dir; restore it")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"kind": "evm-rpc", "network": "other", "tables": {}}', "was changed"),
        ('{"kind": "evm-rpc", "network": "devnet"}', "cannot be used: tables must be"),
        ("{", "is not JSON"),
        ('{"kind": "solana"}', "only 'evm-rpc' datasets"),
    ],
)
async def test_a_manifest_that_was_changed(bench: Bench, text: str, words: str) -> None:
    run = await bench.job(end_block="10")
    bench.manifests.write(bench.manifest.hash, text.encode())
    error = await fails(run, "GET_DATASET", retryable=False, words=words)
    assert bench.manifest.hash in str(error)
    assert await bench.revisions() == {}


async def test_a_manifest_that_differs_from_its_kind_is_used_with_a_warning(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    document: dict[str, Any] = json.loads(evm_rpc_manifest("devnet").canonical_bytes())
    del document["tables"]["logs"]
    bench.manifest = type(bench.manifest)(**{**document, "tables": document["tables"]})
    await bench.complete(end_block="10")
    assert set(await bench.revisions()) == set(TABLES)
    assert any("differs from its kind" in record.message for record in caplog.records)


async def test_no_provider_for_the_network(bench: Bench) -> None:
    def none(network: str, wanted: str | None) -> str:
        raise ProviderMissing(f"no usable evm-rpc provider for network {network}: add one", network=network)

    bench.settings["choose_providers"] = none
    run = await bench.job(end_block="10")
    error = await fails(run, "CREATE_BLOCK_STREAM_CLIENT", retryable=True, words="for network devnet: add one")
    assert (error.details["cause"], error.details["error_class"]) == ("PROVIDER_NOT_FOUND", "bounded")


async def test_the_provider_that_the_descriptor_names_is_the_one_that_is_asked(bench: Bench) -> None:
    asked: list[tuple[str, str]] = []
    open_source = bench.source

    def opened(name: str, network: str) -> EvmRpcSource:
        asked.append((name, network))
        return open_source(name, network)

    bench.settings["open_source"] = opened
    await bench.complete(end_block="10", provider="mine")
    assert asked == [("mine", "devnet")]


async def test_a_provider_of_another_chain(bench: Bench) -> None:
    bench.chain_id = 1
    run = await bench.job(end_block="10")
    error = await fails(run, "CREATE_BLOCK_STREAM_CLIENT", retryable=False, words="serves chain 1337")
    assert error.details["cause"] == "WRONG_CHAIN"
    assert await bench.revisions() == {}


async def test_a_provider_of_another_chain_than_the_first_one_that_was_used(bench: Bench) -> None:
    """The name of the network tells nothing: what was extracted before is of the chain that was served then."""
    await bench.complete(end_block="10")
    assert await bench.query("select network, chain_id::int from ampd_ray.network") == [("devnet", 1337)]
    await bench.execute("update ampd_ray.network set chain_id = 7")
    words = (
        "provider devnet serves chain 1337, but devnet is chain 7. Correct the network or the url in its file, or [amp"
    )
    run = await bench.job(end_block="20")
    error = await fails(run, "CREATE_BLOCK_STREAM_CLIENT", retryable=False, words=words)
    assert error.details["cause"] == "WRONG_CHAIN"
    await bench.move(run.id, JobStatus.FATAL)
    bench.settings["chain_of"] = {"devnet": 1337}.get  # what the configuration says comes first
    assert (await bench.complete(end_block="30")).extractors.spans


async def test_each_provider_has_to_serve_the_chain_of_the_first(bench: Bench) -> None:
    bench.settings["chain_of"] = {"devnet": 7}.get
    outcome = await (await bench.job(end_block="10"))()
    assert outcome.error is not None
    assert (outcome.outcome, outcome.error.details["cause"]) == (Outcome.FAILED, "WRONG_CHAIN")
    assert await bench.query("select 1 from file_metadata") == []


async def test_a_provider_that_is_away(bench: Bench) -> None:
    bench.urls = {"devnet": "http://127.0.0.1:9"}  # the port that discards: nobody listens
    run = await bench.job(end_block="10")
    error = await fails(run, "CREATE_BLOCK_STREAM_CLIENT", retryable=True, words="127.0.0.1:9")
    assert error.details["cause"] == "RPC_UNREACHABLE"


async def test_an_object_that_is_missing_twice(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.complete(end_block="50")
    (path,) = (await bench.paths("logs")).values()
    path.unlink()
    run = await bench.job(end_block="60")
    error = await fails(run, "CONSISTENCY_CHECK", retryable=False, words=path.name)
    assert error.details["cause"] == "OBJECT_MISSING"
    assert sum("looking again" in record.message for record in caplog.records) == 1
    assert await bench.spans() == [(0, 50)]


async def test_an_object_that_is_back_at_the_second_look(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.complete(end_block="50")
    (path,) = (await bench.paths("logs")).values()
    path.rename(path.with_suffix(".away"))

    class Slow:
        """Shows the object from the second question on; ``fired`` counts."""

        fired = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(bench_data, name)

        def exists(self, name: str) -> bool:
            if name.endswith(path.name) and not self.fired:
                self.fired += 1
                path.with_suffix(".away").rename(path)
                return False
            return bench_data.exists(name)

    bench_data = bench.data
    bench.data = slow = Slow()
    await bench.complete(end_block="60")
    assert slow.fired == 1
    assert sum("looking again" in record.message for record in caplog.records) == 1
    await bench.assert_exactly_once(0, 60)


async def test_deleted_rows_are_extracted_again(bench: Bench) -> None:
    """As the message advises where an object is lost for good."""
    bench.options = WriterOptions(segment_blocks=20)
    await bench.complete(end_block="59")
    path = sorted((await bench.paths("logs")).values())[1]
    path.unlink()
    assert await bench.execute("delete from file_metadata where file_name = %s", path.name) == 1
    await bench.complete(end_block="59")
    await bench.assert_exactly_once(0, 59)


async def test_revisions_are_made_once_and_kept(bench: Bench) -> None:
    await bench.complete(end_block="10")
    before = await bench.revisions()
    await bench.complete(end_block="20")
    assert await bench.revisions() == before
    async with bench.db.connection() as conn:
        (job,) = await bench.query("select id from jobs")
        assert await revisions.written_by(conn, job.id) == before


async def test_a_job_that_is_another_nodes_starts_nothing(bench: Bench) -> None:
    run = await bench.job(end_block="10")
    assert await bench.execute("update jobs_status set node_id = 'worker-2'") == 1
    outcome = await run()
    assert outcome.outcome is Outcome.FENCED
    assert run.extractors.spans == []
    assert await bench.query("select 1 from ampd_ray.location_lease") == []
    assert await bench.query("select 1 from ampd_ray.job_progress where phase <> 'opening'") == []


async def test_staged_files_of_a_dead_run_are_removed(bench: Bench) -> None:
    run = await bench.complete(end_block="10")
    location = run.writers.partitions[0].locations[0]
    left = bench.data.stage(location.location_id, location.epoch, "left-over.parquet")
    left.write_bytes(b"half a file")
    assert bench.staged() == [left]
    await bench.complete(end_block="20")
    assert bench.staged() == []
    await bench.assert_exactly_once(0, 20)
