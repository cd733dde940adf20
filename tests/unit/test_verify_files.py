"""``ampd verify``: from the files of a dataset to what is wrong with it, without a database."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ampd_ray.chain.expression import parse_range
from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.cli import verify as command
from ampd_ray.cli.app import app
from ampd_ray.client import verify as client_verify
from ampd_ray.client.tables import TableFile
from ampd_ray.client.verify import Progress, in_processes, plan, verify
from ampd_ray.client.verify_report import Report, report
from ampd_ray.client.verify_span import SpanTask, Unverified, verify_span
from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.schemas import TABLES
from ampd_ray.datasets.evm.verify import Check, Level
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import AmpdError, BeyondHead, NothingThere
from ampd_ray.materialize.encode import footer_metadata
from ampd_ray.metadb import audit, datasets, networks, revisions
from ampd_ray.metadb.audit import FileRow
from ampd_ray.metadb.revisions import Revision
from ampd_ray.store.files import open_store
from tests.fakes.object_stores import S3Server
from tests.reference import read_set

LAST = 54  # of the test chain, which starts at 0
ALL = Span(0, LAST)
CUTS = [Span(0, 19), Span(20, 39), Span(40, LAST)]
REF = DatasetRef.parse("_/test")

Tables = dict[str, pa.Table]
_decoder = msgspec.json.Decoder(BlockAndReceipts)


def load(folder: Path) -> Tables:
    blocks = [_decoder.decode(msgspec.json.encode(answer)) for answer in read_set(folder)]
    return decode(sorted(blocks, key=lambda block: int(str(block.block.number), 16)), "test")


@pytest.fixture(scope="module")
def honest(chain_data: Path) -> Tables:
    return load(chain_data / "testchain-execution-apis")


def changed(tables: Tables, table: str, column: str, row: int, value: Any) -> Tables:
    values = tables[table][column].to_pylist()
    values[row] = value
    field = tables[table].schema.field(column)
    at = tables[table].schema.get_field_index(column)
    return tables | {table: tables[table].set_column(at, field, pa.array(values, field.type))}


def rows_of(table: pa.Table, span: Span, without: Sequence[Span] = ()) -> pa.Table:
    numbers = table["block_num"].to_pylist()
    kept = [number in span and not any(number in lost for lost in without) for number in numbers]
    return table.filter(pa.array(kept, pa.bool_()))


class Shelf:
    """A data directory with the files of one dataset, and a client whose database lists them."""

    def __init__(self, folder: Path, tables: Tables, cuts: list[Span] = CUTS) -> None:
        self.settings = SimpleNamespace(data_dir=str(folder), ampd_ray=SimpleNamespace(networks={}, insecure_ray=False))
        self.network = "test"
        self.chain_id: int | None = None
        self.db = self
        self.folder = folder
        self.files: dict[str, list[TableFile]] = {}
        self._rows: dict[int, list[FileRow]] = {}
        for location_id, name in enumerate(TABLES):
            self._rows[location_id] = [self._write(folder, name, span, tables) for span in cuts]

    def _write(self, folder: Path, name: str, span: Span, tables: Tables) -> FileRow:
        path = folder / name / f"{span.start:09}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(rows_of(tables[name], span), path, version="2.6", use_compliant_nested_type=False)
        self.files.setdefault(name, []).append(
            TableFile(path.relative_to(folder).as_posix(), span, path.stat().st_size)
        )
        headers = rows_of(tables["blocks"], span)
        parent, last = headers["parent_hash"][0].as_py(), headers["hash"][-1].as_py()
        of = BlockRange("test", span.start, span.end, last, parent)
        footer = footer_metadata(table=name, filename=path.name, created_ns=1, range_=of, parents=[], generation=0)
        size = path.stat().st_size
        return FileRow(span.start + 1, path.name, path.as_uri(), footer["nozzle_metadata"], size, None, False)

    def path(self, name: str, at: int) -> Path:
        return self.folder / self.files[name][at].path

    def rewrite(self, name: str, at: int, rows: pa.Table) -> None:
        """Another content, registered as it is."""
        pq.write_table(rows, self.path(name, at), use_compliant_nested_type=False)
        self.files[name][at] = replace(self.files[name][at], size=self.path(name, at).stat().st_size)

    def tasks(self, wanted: Span, level: Level) -> list[SpanTask]:
        return plan(str(self.folder), self.files, wanted, level)

    def manifest(self, ref: DatasetRef) -> Any:
        assert ref == REF
        return SimpleNamespace(hash="ab" * 32, network=self.network)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        yield

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    async def revisions(self, *args: object) -> dict[str, Revision]:
        return {name: Revision(location_id, name) for location_id, name in enumerate(TABLES)}

    async def rows(self, conn: object, location_id: int, after: int) -> list[FileRow]:
        return [row for row in self._rows[location_id] if row.file_id > after][:2]

    async def resolved(self, *args: object) -> str:
        return "ab" * 32

    async def chain(self, *args: object) -> int | None:
        return self.chain_id

    def listed(self, patch: pytest.MonkeyPatch) -> Shelf:
        patch.setattr(datasets, "resolve", self.resolved)
        patch.setattr(networks, "recorded", self.chain)
        patch.setattr(revisions, "active_revisions", self.revisions)
        patch.setattr(audit, "file_rows", self.rows)
        return self


def verified(shelf: Shelf, wanted: Span = ALL, level: Level = Level.FULL) -> Report:
    results = [verify_span(task) for task in shelf.tasks(wanted, level)]
    return report("_/test", "ab" * 32, level, wanted, results, 0.0)


def summed(shelf: Shelf) -> Report:
    """The same with a task for each file."""
    tasks = [
        SpanTask(file.span, Level.ROOTS, str(shelf.folder), {name: [shelf.files[name][at]] for name in TABLES})
        for at, file in enumerate(shelf.files["blocks"])
    ]
    return report("_/test", "", Level.ROOTS, ALL, map(verify_span, tasks), 0.0)


def test_files_of_a_sound_chain_pass(tmp_path: Path, honest: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, steps = Shelf(tmp_path, honest).listed(monkeypatch), list[Progress]()
    found = verify(shelf, REF, on_progress=steps.append)  # type: ignore[arg-type]
    assert (found.passed, found.failed, found.problems, found.unverified) == (55, (), (), ())
    assert found.sound
    assert found.wanted == ALL
    assert steps[-1] == Progress(55, 55, 0)


def test_a_range_is_verified_alone(tmp_path: Path, honest: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path, honest).listed(monkeypatch)
    found = verify(shelf, REF, blocks=parse_range("15:25"), level=Level.ROOTS)  # type: ignore[arg-type]
    assert (found.wanted, found.passed, found.level) == (Span(15, 24), 10, Level.ROOTS)


@pytest.mark.parametrize(
    ("blocks", "error", "told"),
    [
        ("0:10", NothingThere, "_/test has none of the blocks 0 to 9; it has some from 20 to 54"),
        ("50:60", BeyondHead, "block range '50:60': the last block that _/test has is 54"),
    ],
)
def test_to_verify_what_is_not_there_is_an_error(
    tmp_path: Path, honest: Tables, monkeypatch: pytest.MonkeyPatch, blocks: str, error: type[AmpdError], told: str
) -> None:
    shelf = Shelf(tmp_path, honest, CUTS[1:]).listed(monkeypatch)
    with pytest.raises(error) as raised:
        verify(shelf, REF, blocks=parse_range(blocks))  # type: ignore[arg-type]
    assert (str(raised.value), raised.value.exit_code) == (told, 1)


def test_to_verify_blocks_of_what_was_never_extracted_is_an_error(
    tmp_path: Path, honest: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path, honest, []).listed(monkeypatch)
    assert verify(shelf, REF).wanted is None  # type: ignore[arg-type]
    with pytest.raises(NothingThere, match="nothing of _/test has been extracted yet, so there is no 0:10 to verify"):
        verify(shelf, REF, blocks=parse_range("0:10"))  # type: ignore[arg-type]


def test_processes_of_a_pool_find_the_same(tmp_path: Path, honest: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path, changed(honest, "blocks", "gas_used", 30, 1)).listed(monkeypatch)
    monkeypatch.setattr(client_verify, "_TASK_BLOCKS", 20)
    found = verify(shelf, REF, carry_out=partial(in_processes, processes=2))  # type: ignore[arg-type]
    assert [(verdict.block, verdict.check) for verdict in found.failed] == [(30, Check.BLOCK_HASH)]
    assert found.passed == 54


def test_a_forged_sender_is_seen_by_full_alone(tmp_path: Path, honest: Tables) -> None:
    shelf = Shelf(tmp_path, changed(honest, "transactions", "from", 3, bytes(20)))
    block = honest["transactions"]["block_num"][3].as_py()
    found = verified(shelf)
    assert [(verdict.block, verdict.check) for verdict in found.failed] == [(block, Check.SENDER)]
    assert not found.sound
    assert verified(shelf, level=Level.ROOTS).sound


@pytest.mark.parametrize("row", [30, 20])
def test_a_block_with_another_parent_breaks_the_chain(tmp_path: Path, honest: Tables, row: int) -> None:
    """Inside a task, and at the edge of two."""
    found = summed(Shelf(tmp_path, changed(honest, "blocks", "hash", row - 1, bytes(32))))
    assert [(verdict.block, verdict.check) for verdict in found.failed] == [
        (row - 1, Check.BLOCK_HASH),
        (row, Check.PARENT),
    ]


LOST = "the files have no rows of these blocks"


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ([Span(30, 30)], [Span(30, 30)]),
        ([Span(20, 20)], [Span(20, 20)]),
        ([Span(15, 25)], [Span(15, 19), Span(20, 25)]),
        ([Span(0, 3), Span(50, LAST)], [Span(0, 3), Span(50, LAST)]),
        ([Span(20, 39)], [Span(20, 39)]),
    ],
)
def test_blocks_without_rows_are_named_and_nothing_else_is_blamed(
    tmp_path: Path, honest: Tables, lost: list[Span], named: list[Span]
) -> None:
    """The files are registered with them."""
    shelf = Shelf(tmp_path, honest)
    for name, files in shelf.files.items():
        for at, file in enumerate(files):
            shelf.rewrite(name, at, rows_of(honest[name], file.span, without=lost))
    found = summed(shelf)
    assert [(each.span, each.reason) for each in found.problems] == [(span, LOST) for span in named]
    assert not found.sound
    assert found.failed == ()
    assert found.passed == len(ALL) - sum(map(len, lost))


def test_many_lost_blocks_are_told_in_a_few_lines(tmp_path: Path, honest: Tables) -> None:
    every_second = [Span(number, number) for number in range(0, LAST, 2)]
    shelf = Shelf(tmp_path, {name: rows_of(table, ALL, without=every_second) for name, table in honest.items()}, [ALL])
    found = summed(shelf)
    assert len(found.problems) == 21
    assert found.problems[-1] == Unverified(Span(40, 52), "the files have no rows of 7 of these blocks")
    assert found.passed == 28


def test_files_in_an_object_store_are_verified_by_processes_of_their_own(
    tmp_path: Path, honest: Tables, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path, honest).listed(monkeypatch)
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    shelf.settings.data_dir = moto.url("verified/")
    store = open_store(shelf.settings.data_dir)
    for file in (file for files in shelf.files.values() for file in files):
        store.write(file.path, (tmp_path / file.path).read_bytes())
    found = verify(shelf, REF, carry_out=partial(in_processes, processes=2))  # type: ignore[arg-type]
    assert (found.passed, found.sound) == (55, True)
    gone = shelf.files["logs"][1]
    store.delete(gone.path)
    (problem,) = verify(shelf, REF).problems  # type: ignore[arg-type]
    assert (problem.span, store.url_of(gone.path) in problem.reason) == (ALL, True)


def test_blocks_that_no_table_has_are_unverified(tmp_path: Path, honest: Tables) -> None:
    shelf = Shelf(tmp_path, honest)
    del shelf.files["logs"][1]
    found = verified(shelf, Span(0, 60))
    assert [(each.span, each.reason) for each in found.unverified] == [
        (Span(20, 39), "not in the files of all tables"),
        (Span(55, 60), "not in the files of all tables"),
    ]
    assert found.sound
    assert found.passed == 35


def test_an_unreadable_file_is_a_finding(tmp_path: Path, honest: Tables) -> None:
    shelf = Shelf(tmp_path, honest)
    shelf.path("logs", 1).write_bytes(b"PAR1 not PAR1")
    shelf.path("logs", 2).unlink()
    found = summed(shelf)
    assert [each.span for each in found.problems] == CUTS[1:]
    assert not found.sound


def without_extra_data(blocks: pa.Table) -> pa.Table:
    return blocks.drop_columns(["extra_data"])


def with_text_for_extra_data(blocks: pa.Table) -> pa.Table:
    at = blocks.schema.get_field_index("extra_data")
    return blocks.set_column(at, "extra_data", pa.array(["text"] * len(blocks)))


def with_more(blocks: pa.Table) -> pa.Table:
    return blocks.append_column("more", pa.array([1] * len(blocks)))


def with_nulls(blocks: pa.Table) -> pa.Table:
    at = blocks.schema.get_field_index("extra_data")
    return blocks.set_column(at, "extra_data", pa.nulls(len(blocks), pa.binary()))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_extra_data, "column extra_data is absent, not binary"),
        (with_text_for_extra_data, "column extra_data is string, not binary"),
        (with_more, "column more is int64, not absent"),
        (with_nulls, "column extra_data has nulls"),
    ],
)
def test_a_file_with_other_columns_is_a_finding_and_the_others_are_verified(
    tmp_path: Path, honest: Tables, spoil: Callable[[pa.Table], pa.Table], words: str
) -> None:
    shelf = Shelf(tmp_path, honest)
    path = shelf.path("blocks", 1)
    shelf.rewrite("blocks", 1, spoil(rows_of(honest["blocks"], CUTS[1])))
    found = summed(shelf)
    assert [(each.span, each.reason) for each in found.problems] == [(CUTS[1], f"ValueError: {path}: {words}")]
    assert found.passed == len(ALL) - len(CUTS[1])
    assert not found.sound


def test_what_rows_cannot_tell_is_unverified_in_stretches(tmp_path: Path, chain_data: Path) -> None:
    tables = load(chain_data / "rpc-ropsten-rosetta")
    numbers = tables["blocks"]["block_num"].to_pylist()
    cuts = [Span(number, number) for number in numbers]
    results = [
        verify_span(task) for task in Shelf(tmp_path, tables, cuts).tasks(Span(numbers[0], numbers[-1]), Level.FULL)
    ]
    found = report("_/test", "", Level.FULL, None, results, 0.0)
    assert found.sound
    assert len(found.unverified) == 7
    assert all("state roots" in each.reason for each in found.unverified)


@pytest.mark.parametrize("network", ["cronos", "chain_25", "ours", "theirs"])
def test_a_chain_that_hashes_otherwise_is_known_by_name_or_by_what_its_provider_said(
    tmp_path: Path, chain_data: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    tables = load(chain_data / "rpc-cronos")
    numbers = tables["blocks"]["block_num"].to_pylist()
    shelf = Shelf(tmp_path, tables, [Span(number, number) for number in numbers]).listed(monkeypatch)
    assert len(verify(shelf, REF).failed) == len(numbers)  # type: ignore[arg-type]
    shelf.settings.ampd_ray.networks["ours"] = 25
    shelf.network, shelf.chain_id = network, 25 if network == "theirs" else None
    found = verify(shelf, REF)  # type: ignore[arg-type]
    assert found.sound
    told = {each.reason for each in found.unverified} - {"not in the files of all tables"}
    assert told == {"block hash not verified: it needs the header of Tendermint, whose hash it is"}


@pytest.mark.parametrize(("row", "code"), [(None, 0), (7, 1)])
def test_the_command_tells_what_is_wrong(
    tmp_path: Path, honest: Tables, monkeypatch: pytest.MonkeyPatch, row: int | None, code: int
) -> None:
    tables = honest if row is None else changed(honest, "blocks", "nonce", row, 99)
    shelf = Shelf(tmp_path, tables).listed(monkeypatch)
    monkeypatch.setattr(command, "open_client", lambda *args: nullcontext(shelf))
    words = ["verify", "_/test", "--processes", "1", "--level", "roots"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == code, shown.output
    assert ("block 7  block hash: expected 0x" in shown.stdout) is (row is not None)
    told = json.loads(CliRunner().invoke(app, [*words, "--json", "--quiet"]).stdout)
    assert (told["passed"], [each["block"] for each in told["failed"]]) == (55 - code, [7] if row else [])


def test_the_command_refuses_an_unknown_level() -> None:
    assert CliRunner().invoke(app, ["verify", "_/test", "--level", "off"]).exit_code == 2


def test_the_bar() -> None:
    assert command.progress_text(Progress(50, 200, 3), 10.0) == (
        "[#######.......................]  50 of 200 blocks  5/s  3 failed  ETA 30.0 s"
    )
    assert command.progress_text(Progress(0, 0, 0), 0.0).startswith("[....")


def test_the_command_says_at_once_that_nobody_is_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray by itself would go on trying for many minutes."""
    client = SimpleNamespace(settings=SimpleNamespace(ampd_ray=SimpleNamespace(insecure_ray=False)))
    monkeypatch.setattr(command, "open_client", lambda *args: nullcontext(client))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        shown = CliRunner().invoke(app, ["verify", "_/test", "--address", address])
    assert (shown.exit_code, f"error: no Ray cluster answers at {address}" in shown.output) == (1, True), shown.output
