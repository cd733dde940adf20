"""Log lines: structured, bounded, without secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from ampd_ray import log

logger = logging.getLogger("ampd_ray.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("ampd_ray")
    handlers, level = list(root.handlers), ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:hunter2@eth.example.org/v3/hunter2?key=hunter2", "https://eth.example.org"),
        ("got 'wss://eth.example.org:8546/hunter2' back", "got 'wss://eth.example.org:8546' back"),
        ("postgresql://amp:hunter2@/db?host=/run", "postgresql://***"),
        ("postgresql://amp:hun/ter2@db/amp", "postgresql://***"),
        ("http://[::1]:8545/hunter2", "http://[::1]:8545"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("file:///srv/data and ipc:///run/geth.ipc", "file:///srv/data and ipc:///run/geth.ipc"),
        ("cannot read s3://blocks/a/b%20c.parquet: gone", "cannot read s3://blocks/a/b%20c.parquet: gone"),
        ("abfss://c@account.dfs.core.windows.net/a, x", "abfss://c@account.dfs.core.windows.net/a, x"),
        ("s3://hunter2:hunter2@blocks/a?k=hunter2 s3://blocks/a?hunter2", "s3://blocks s3://blocks"),
        ("host=db password=hunter2 user=amp", "host=db password=*** user=amp"),
        ("password='hunter 2'", "password=***"),
        ('{"auth_token": "hunter2"}', '{"auth_token": ***}'),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("nothing to hide: 5 of 7", "nothing to hide: 5 of 7"),
    ],
)
def test_secrets_are_hidden(text: str, clean: str) -> None:
    assert log.redact(text) == clean


@pytest.mark.timeout(10)
@pytest.mark.parametrize("piece", ["x", "a.", "a:", "token", "token ", "http://", "http://a@", "password='", "Bearer "])
def test_hiding_takes_linear_time(piece: str) -> None:
    log.redact(piece * (1_000_000 // len(piece)))


def test_a_line_holds_message_facts_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", as_json=False)
    with log.bind(node_id="a"), log.bind(job_id=7):
        logger.info("committed %d files", 3, extra={"table": "blocks", "note": 'a "b"\nc', "empty": ""})
    logger.debug("not shown")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(
        'level=info logger=ampd_ray.test msg="committed 3 files" node_id=a job_id=7 table=blocks'
        ' note="a \\"b\\"\\nc" empty=""\n'
    )
    assert err.startswith("time=2")
    assert err.count("\n") == 1


def test_json_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMP_LOG_FORMAT", "json")
    monkeypatch.setenv("AMP_LOG", "debug")
    log.setup()
    logger.debug("fetched", extra={"url": "https://h/hunter2", "blocks": 5, "head": None})
    line = json.loads(capsys.readouterr().err)
    assert (line["msg"], line["url"], line["blocks"], line["head"]) == ("fetched", "https://h", 5, None)


def test_values_are_bounded_and_tracebacks_keep_their_end(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError("ü" * 5000 + " the end https://u:hunter2@h")

    log.setup("info", as_json=True)
    try:
        fail()
    except ValueError:
        logger.exception("x" * 5000, extra={"body": "y" * 5000})
    line = json.loads(capsys.readouterr().err)
    assert line["msg"] == "x" * log.VALUE_BYTES + "…[2952 bytes cut]"
    assert line["body"].endswith("…[2952 bytes cut]")
    assert line["traceback"].endswith(" the end https://h")
    assert len(line["traceback"].encode()) < log.VALUE_BYTES + 40


def test_setup_again_replaces_its_own_handler_only(capsys: pytest.CaptureFixture[str]) -> None:
    before = len(logging.getLogger().handlers)
    log.setup("info")
    log.setup("error")
    assert len(logging.getLogger().handlers) == before + 1
    logger.warning("not shown")
    assert capsys.readouterr().err == ""


def test_an_unknown_level_is_a_warning(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMP_LOG", "info,amp=debug")
    log.setup()
    logger.info("shown")
    err = capsys.readouterr().err
    assert 'msg="unknown log level, using info"' in err
    assert "msg=shown" in err


def test_an_ill_formed_call_never_breaks_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd\ud800"

    log.setup("info", as_json=False)
    logger.info("x", extra={"odd": Odd()})
    assert "odd=odd" in capsys.readouterr().err


def test_a_log_file_starts_anew_once_it_is_large_and_one_old_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "FILE_BYTES", 4)
    path, old = tmp_path / "solo.log", tmp_path / "solo.log.1"
    log.rotate(path)  # there is none yet
    path.write_text("1234")
    log.rotate(path)
    assert path.read_text() == "1234"
    for text in ("first", "second"):
        path.write_text(text)
        log.rotate(path)
        assert (path.exists(), old.read_text()) == (False, text)
