"""Whose machine this is, and what its metadata service says of its end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.clouds import machine
from ampd_ray.clouds.machine import CLOUDS, LINK_LOCAL, TOLD, Machine
from ampd_ray.clouds.notices import Azure, NoAnswer
from ampd_ray.errors import ConfigError
from tests.fakes.bench import until
from tests.fakes.metadata import Metadata, metadata

FIRMWARE = {
    "aws": {"sys_vendor": "Amazon EC2\n", "product_name": "m7i.large"},
    "gcp": {"sys_vendor": "Google", "product_name": "Google Compute Engine\n"},
    "azure": {"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n"},
    None: {
        "sys_vendor": "Microsoft Corporation",
        "product_name": "Surface",
        "chassis_asset_tag": "",
        "bios_version": "1",
    },
}


STRANGE = (
    "",
    "[]",
    "{}",
    "null",
    '{"time": 7}',
    '{"time": "9999-12-31T23:59:59Z"}',
    '{"Events": [1, {"Resources": 3}]}',
)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    monkeypatch.setattr(machine, "ASK_EVERY_SECS", 0.01)
    with metadata() as serving:
        yield serving


@pytest.mark.parametrize("cloud", FIRMWARE)
def test_the_firmware_tells_whose_machine_it_is(cloud: str | None, tmp_path: Path) -> None:
    for name, text in FIRMWARE[cloud].items():
        (tmp_path / name).write_text(text)
    found = Machine.of("auto", {}, tmp_path)
    assert found == (None if cloud is None else Machine(cloud, LINK_LOCAL))


def test_a_machine_without_firmware_is_nobodys(tmp_path: Path) -> None:
    assert Machine.of("auto", {}, tmp_path / "none") is None


def test_it_can_be_said_and_switched_off(tmp_path: Path) -> None:
    (tmp_path / "sys_vendor").write_text("Amazon EC2")
    told = {TOLD: "gcp=http://127.0.0.1:1338"}
    assert Machine.of("off", told, tmp_path) is None
    assert Machine.of("azure", told, tmp_path) == Machine("azure", LINK_LOCAL)
    assert Machine.of("auto", told, tmp_path) == Machine("gcp", "http://127.0.0.1:1338")
    assert Machine.of("auto", {TOLD: "off"}, tmp_path) is None


@pytest.mark.parametrize(
    "told", ["on", "aws", "aws=", "aws=127.0.0.1", "ibm=http://127.0.0.1", "aws=https://host", "aws=http://"]
)
def test_what_is_said_wrongly_is_an_error(told: str) -> None:
    with pytest.raises(ConfigError, match=TOLD):
        Machine.of("auto", {TOLD: told})


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_a_machine_hears_that_it_is_taken_away(cloud: str, service: Metadata) -> None:
    waiting = asyncio.create_task(Machine(cloud, service.url).taken_away())
    await until(lambda: len(service.asked) >= 8)
    assert not waiting.done()
    service.take_away(30.0)
    assert 25.0 < await asyncio.wait_for(waiting, 10) <= 30.0


async def test_a_machine_hears_it_though_all_threads_of_the_loop_wait_for_a_store(service: Metadata) -> None:
    answers, hanging = threading.Event(), ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(hanging)
    waiting = hanging.submit(answers.wait)
    service.take_away(30.0)
    try:
        assert await asyncio.wait_for(Machine("gcp", service.url).taken_away(), 10) == 30.0
        assert waiting.running()
    finally:
        answers.set()


async def test_a_token_that_has_run_out_is_replaced(service: Metadata) -> None:
    waiting = asyncio.create_task(Machine("aws", service.url).taken_away())
    await until(lambda: len(service.asked) >= 4)
    service.tokens += 1
    service.take_away(120.0)
    assert 110.0 < await asyncio.wait_for(waiting, 10) <= 120.0
    assert service.tokens == 3


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_a_service_that_is_in_trouble_is_said_once_and_asked_again(
    cloud: str, service: Metadata, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "ASK_SELDOM_SECS", 0.01)
    caplog.set_level("INFO")
    service.broken = True
    waiting = asyncio.create_task(Machine(cloud, service.url).taken_away())
    await until(lambda: len(service.asked) >= 3 * machine.PATIENCE)
    service.take_away(30.0)
    service.broken = False
    await asyncio.wait_for(waiting, 10)
    said = [record.getMessage() for record in caplog.records if record.name == machine.__name__]
    assert len(said) == 1
    assert 'spot_notice = "off"' in said[0]
    assert "500" in said[0]


async def test_nobody_there_is_no_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(machine, "ASK_EVERY_SECS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    waiting = asyncio.create_task(Machine("gcp", f"http://127.0.0.1:{port}").taken_away())
    await until(lambda: caplog.records)
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.parametrize("cloud", CLOUDS)
@given(status=st.sampled_from([200, 301, 403, 404, 500]), text=st.text() | st.sampled_from(STRANGE))
def test_whatever_a_service_answers_is_a_time_nothing_or_no_answer(cloud: str, status: int, text: str) -> None:
    def ask(method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        return status, text

    try:
        secs = CLOUDS[cloud]().secs_left(ask, datetime.now(UTC))
    except NoAnswer:
        return
    assert secs is None or secs >= 0.0


def test_an_event_that_has_begun_leaves_no_time() -> None:
    events = '{"Events": [{"EventType": "Preempt", "Resources": ["a"], "NotBefore": ""}]}'

    def ask(method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        return 200, "a" if "name" in path else events

    assert Azure().secs_left(ask, datetime.now(UTC)) == 0.0
