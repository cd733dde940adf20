"""A plan of a devnet's blocks: what it says, against what there is, and that nothing is left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ampd_ray as amp
from ampd_ray.chain.ranges import Span
from ampd_ray.cli.app import app
from ampd_ray.client.planning.sample import Sampler
from ampd_ray.client.planning.strata import choose
from ampd_ray.client.plans import Plan, plan
from ampd_ray.devnet.rpc import METHOD_NOT_FOUND, RpcError
from ampd_ray.errors import BlockUnavailable, InvalidRange, ProviderError, ProviderUnreachable
from tests.fakes.chains import extract
from tests.fakes.devnet import Devnet
from tests.fakes.providers import provider

HEAD = 1200
LAST = 1099
PRICE = "[ampd_ray.price]\nunits = { eth_getBlockByNumber = 16, default = 500 }\nper_million_units = 40\n"

pytestmark = pytest.mark.parametrize("devnet", [HEAD], indirect=True)


@pytest.fixture(autouse=True)
def amp_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """There is no environment, and it would be here."""
    monkeypatch.delenv("AMP_CONFIG", raising=False)
    monkeypatch.setenv("AMP_DIR", str(tmp_path / "amp"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "amp"


@pytest.fixture
def answering(devnet: Devnet) -> Iterator[Callable[[str, Callable[[list[Any]], bytes | None]], None]]:
    """Give a method of the devnet other answers: those that a function has, where it has one."""
    methods = devnet.server.rpc._methods
    before = dict(methods)

    def change(method: str, answer: Callable[[list[Any]], bytes | None]) -> None:
        methods[method] = lambda params: found if (found := answer(params)) is not None else before[method](params)

    yield change
    methods.clear()
    methods.update(before)


def provided(amp_dir: Path, devnet: Devnet, more: str) -> None:
    (amp_dir / "providers").mkdir(parents=True)
    text = f'kind = "evm-rpc"\nnetwork = "devnet"\nurl = "{devnet.url}"\n{more}'
    (amp_dir / "providers" / "mine.toml").write_text(text)


def planned(devnet: Devnet, blocks: str = f"0:{LAST + 1}", **options: Any) -> Plan:
    return plan(rpc=devnet.url, blocks=blocks, **options)


def test_a_plan_comes_near_the_truth_by_few_calls_and_leaves_nothing_behind(devnet: Devnet, tmp_path: Path) -> None:
    before, seen = devnet.server.rpc.calls.copy(), []
    found = planned(devnet, on_progress=lambda done, of: seen.append((done, of)))
    calls = devnet.server.rpc.calls - before
    truth = extract(devnet.chain, Span(0, LAST)).tables
    assert found.blocks == LAST + 1
    assert found.rows["blocks"].value == LAST + 1
    for table in ("transactions", "logs"):
        assert found.rows[table].low < truth[table].num_rows < found.rows[table].high
    assert found.rows["transactions"].value == pytest.approx(truth["transactions"].num_rows, rel=0.2)
    assert found.calls["eth_getBlockByNumber"].value == LAST + 1
    assert found.calls["eth_getBlockReceipts"].value == pytest.approx((LAST + 1) * 15 / 16, rel=0.1)
    assert found.requests.value == sum(each.value for each in found.calls.values())
    assert [pace.extractors for pace in found.times if not pace.here] == [1, 2, 4, 8]
    assert sum(calls.values()) < 500
    assert seen[-1] == (found.sampled, found.sampled)
    assert list(tmp_path.iterdir()) == []


def test_the_provider_s_file_says_what_it_costs_and_how_fast_it_may_be_asked(devnet: Devnet, amp_dir: Path) -> None:
    provided(amp_dir, devnet, "rate_limit_per_minute = 150\n" + PRICE)
    found = planned(devnet)
    assert found.provider == "mine"
    assert found.units is not None
    assert found.cost is not None
    receipts = found.calls["eth_getBlockReceipts"]
    assert found.units.value == pytest.approx(16 * 1100 + 500 * receipts.value)
    assert found.cost.high == pytest.approx(40e-6 * (16 * 1100 + 500 * receipts.high))
    assert {pace.limit for pace in found.times} == {"rate limit"}
    assert "USD" in str(found)
    assert [path.name for path in amp_dir.iterdir()] == ["providers"]


def test_batches_are_fewer_requests_and_as_many_calls(devnet: Devnet, amp_dir: Path) -> None:
    provided(amp_dir, devnet, "rpc_batch_size = 10\n")
    found = planned(devnet)
    assert found.calls["eth_getBlockByNumber"].value == 1100
    assert found.requests.value == pytest.approx(220, rel=0.1)


def test_receipts_one_by_one_are_as_many_calls_as_transactions(devnet: Devnet, amp_dir: Path) -> None:
    provided(amp_dir, devnet, "fetch_receipts_per_tx = true\n")
    found = planned(devnet)
    assert found.calls["eth_getTransactionReceipt"] == found.rows["transactions"]


def test_a_provider_without_receipts_of_blocks_is_found_out(devnet: Devnet, answering: Any) -> None:
    answering("eth_getBlockReceipts", _missing)
    found = planned(devnet)
    assert found.calls["eth_getTransactionReceipt"].value == pytest.approx(found.rows["transactions"].value, rel=0.1)


def _missing(params: list[Any]) -> bytes:
    raise RpcError(METHOD_NOT_FOUND, "the method does not exist")


def test_what_a_node_has_pruned_is_said_and_left_out(devnet: Devnet, answering: Any) -> None:
    answering("eth_getBlockByNumber", lambda params: b"null" if _number(params) < 777 else None)
    found = planned(devnet)
    assert found.unserved == (Span(0, 776),)
    assert found.blocks == LAST + 1 - 777
    assert "777 blocks below 777" in str(found)
    assert f"{devnet.url.removeprefix('http://')} does not have them" in str(found)


def test_a_node_that_has_none_of_it_is_an_error(devnet: Devnet, answering: Any) -> None:
    answering("eth_getBlockByNumber", lambda params: b"null" if _number(params) < HEAD else None)
    with pytest.raises(BlockUnavailable, match="archive node"):
        planned(devnet, "0:40", samples=4)


def test_a_few_wrong_blocks_are_noted(devnet: Devnet, answering: Any) -> None:
    wrong = choose([Span(0, LAST)], 64)[5].run.start
    answering("eth_getBlockByNumber", lambda params: b'{"number":"0x1"}' if _number(params) == wrong else None)
    found = planned(devnet)
    assert found.sampled == 62
    assert any(f"block {wrong}" in note for note in found.notes)


def test_what_cannot_be_asked_is_an_error_of_its_own(devnet: Devnet) -> None:
    with pytest.raises(ProviderUnreachable):
        plan(rpc="http://127.0.0.1:9/", blocks="0:10")
    with pytest.raises(InvalidRange):
        planned(devnet, "0:9999")
    assert issubclass(ProviderUnreachable, ProviderError)


def test_one_block_is_known_exactly(devnet: Devnet) -> None:
    found = planned(devnet, "7:8")
    assert found.rows["transactions"].low == found.rows["transactions"].high
    assert (found.tasks, dict(found.files)) == (1, {"blocks": 1, "transactions": 1, "logs": 1})


async def test_a_sample_stops_when_its_time_is_over(devnet: Devnet) -> None:
    """What was seen until then is spread over the range, and its neighbours stand for the rest."""
    now = iter(range(10**6))
    strata = choose([Span(0, LAST)], 64)
    sampler = Sampler(provider(devnet.url), 1337, strata, ("blocks", "logs"), clock=lambda: float(next(now)))
    sample = await sampler.take()
    assert 4 < len(sample.runs) < len(strata)
    assert {0, len(strata) - 1} <= sample.runs.keys()


async def test_it_can_be_awaited(devnet: Devnet) -> None:
    found = await amp.aio.plan(rpc=devnet.url, blocks="0:20", samples=4)
    assert isinstance(found, amp.Plan)
    assert found.rows["blocks"].value == 20
    assert amp.plan(rpc=devnet.url, blocks="0:20", samples=4).rows == found.rows  # in a running loop, too


# -- how it looks -----------------------------------------------------------------------------------------------------


def test_the_command_prints_the_plan_and_what_comes_next(devnet: Devnet, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["backfill", "--rpc", devnet.url, "--blocks", "0:1000", "--plan"])
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("plan of devnet (chain 1337) at 127.0.0.1:")
    assert lines[-1] == "nothing was written; the same without --plan runs it"
    assert "no price in the provider's file: see docs/how-to/plan.md" in result.stdout
    for name in ("blocks", "tasks", "calls", "requests", "JSON", "rows", "files", "Parquet"):
        assert any(line.startswith(f"  {name} ") for line in lines), name
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_json_for_programs(devnet: Devnet) -> None:
    words = ["backfill", "--rpc", devnet.url, "--blocks", "0:1000", "--tables", "logs", "--plan", "--json", "--quiet"]
    result = CliRunner().invoke(app, words)
    found = json.loads(result.stdout)
    value, low, high = found["rows"]["logs"]
    assert low < value < high
    assert (found["blocks"], found["covered"], list(found["files"])) == (1000, 0, ["logs"])
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("rpc", "blocks", "exit_code", "said"),
    [
        ("nonsense", "0:10", 2, "error: --rpc: url must begin with one of http://"),
        ("http://127.0.0.1:9/secret", "0:10", 1, "error: provider rpc at 127.0.0.1:9 refused the connection"),
        (None, "0:9999", 1, "error: block range '0:9999': block 9998 is beyond the head"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line_as_without_plan(
    devnet: Devnet, tmp_path: Path, rpc: str | None, blocks: str, exit_code: int, said: str
) -> None:
    words = ["backfill", "--rpc", rpc or devnet.url, "--blocks", blocks, "--plan", "--amp-dir", str(tmp_path / "none")]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr.startswith(said)
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_tables_in_its_own_colours(devnet: Devnet) -> None:
    found = planned(devnet, network="a<b>&c")
    shown = found._repr_html_()
    assert "a&lt;b&gt;&amp;c" in shown
    assert "<b>" not in shown
    assert set(re.findall(r"color:(\w+)", shown)) == {"inherit"}  # any other would be right in one theme only
    assert shown.count("<table") == shown.count("</table>") == 2


def _number(params: list[Any]) -> int:
    return int(params[0], 16) if params[0].startswith("0x") else HEAD
