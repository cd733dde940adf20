"""A job's card in a kernel, against nothing but Postgres: updated in place while the kernel is busy, until the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import psycopg
import pytest
from nbclient import NotebookClient

from ampd_ray.client import Client, Job
from ampd_ray.client.displays.watcher import Watcher
from ampd_ray.config import create_directories, load_settings
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.metadb import jobs, progress
from ampd_ray.metadb.jobs import JobStatus
from ampd_ray.metadb.progress import JobProgress, JobRate
from tests.fakes.ampd import clean_env
from tests.fakes.places import REPO
from tests.postgres.handles import MANIFEST, NODE, REF, register_worker
from tests.servers import Server, fresh_database

FORMAT: Any = nbformat  # it has no types
CELLS = (
    "import ampd_ray as amp\nclient = amp.connect({target!r}, {directories})",
    "job = client.job({job})\njob",
    "display(job)",
    "job.wait(60)",
    "import json, sys, threading\n"
    "names = [thread.name for thread in threading.enumerate()]\n"
    "print(json.dumps({{'cards': names.count('ampd-ray-card'), 'ray': 'ray' in sys.modules}}))",
    "job.rates()",
    "client.job({job}).wait(60, progress=False)",
    "await (await amp.aio.job({job})).wait(60)",
)
SHOWN, SHOWN_AGAIN, WAITING, THREADS, RATES, SILENT, AWAITED = range(1, 8)


class Node:
    """What the node of a job writes, by another session."""

    def __init__(self, client: Client, job: Job):
        self._client = client
        self._job_id = job.id

    def says(self, done: int) -> None:
        self._do(lambda conn: progress.report(conn, self._job_id, NODE, JobProgress("extracting", done, 100, rate=7.5)))

    def moves(self, *statuses: JobStatus) -> None:
        for status in statuses:
            self._do(partial(jobs.transition, job_id=self._job_id, to=status, node_id=NODE))

    def ends(self) -> None:
        self._do(lambda conn: progress.record_rate(conn, self._job_id, NODE, JobRate(5.0, 100, 400, 20, "rpc")))
        self.moves(JobStatus.COMPLETED)

    def _do(self, verb: Callable[[Any], Any]) -> None:
        async def done() -> None:
            async with self._client.db.connection() as conn:
                await verb(conn)

        self._client.run(done())


@pytest.fixture
def url(embedded: Server) -> Iterator[str]:
    with fresh_database(embedded) as url:
        yield url


@pytest.fixture
def client(url: str, tmp_path: Path) -> Iterator[Client]:
    settings = load_settings(None, {"AMP_CONFIG_METADATA_DB_URL": url}, solo_dir=tmp_path)
    create_directories(settings)
    with Client(settings) as client:
        client.register_dataset(REF, MANIFEST)
        yield client


@pytest.fixture
def job(client: Client) -> Job:
    register_worker(client)
    return client.deploy(JobDescriptor.of(REF, MANIFEST.hash, end_block="99"))


class Driven(NotebookClient):
    """Runs a notebook, and has the job go on whenever its cards have shown what it did last."""

    def __init__(self, notebook: Any, node: Node, **settings: Any):
        super().__init__(notebook, **settings)
        self._next: list[tuple[str, Callable[[], None]]] = [
            ("50.0 %", lambda: node.says(75)),
            ("75.0 %", node.ends),
        ]
        self._node = node
        self.messages: list[tuple[int, str, str, str]] = []  # while which cell ran, type, display, text

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        content, kind = msg["content"], msg["msg_type"]
        if kind == "execute_input" and cell_index == WAITING:
            self._node.moves(JobStatus.RUNNING)
            self._node.says(50)
        if kind in ("display_data", "update_display_data"):
            text = content["data"]["text/plain"]
            self.messages.append((cell_index, kind, content["transient"].get("display_id", ""), text))
            if self._next and self._next[0][0] in text:
                self._next.pop(0)[1]()
        return super().process_message(msg, cell, cell_index)


@pytest.mark.timeout(120)
def test_cards_are_updated_in_place_while_the_kernel_waits_and_end_with_the_job(
    client: Client, job: Job, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    names = ("data_dir", "providers_dir", "manifests_dir")
    directories = ", ".join(f"{name}={getattr(client.settings, name)!r}" for name in names)
    sources = [cell.format(target=url, directories=directories, job=job.id) for cell in CELLS]
    notebook = FORMAT.v4.new_notebook(cells=[FORMAT.v4.new_code_cell(source) for source in sources])
    run = Driven(notebook, Node(client, job), timeout=60, resources={"metadata": {"path": str(tmp_path)}})
    run.execute(env=clean_env() | {"PYTHONPATH": str(REPO)})

    shown = [(cell, display) for cell, kind, display, _ in run.messages if kind == "display_data"]
    assert [cell for cell, _ in shown] == [SHOWN, SHOWN_AGAIN, AWAITED]
    for _, display in shown[:2]:
        updates = [text for _, kind, updated, text in run.messages if kind.startswith("update") and updated == display]
        assert 3 <= len(updates) <= 12
        assert "complete" in updates[-1]
    for at in (SHOWN, SHOWN_AGAIN):
        (output,) = notebook.cells[at].outputs
        assert output.output_type == "display_data"
        assert "complete" in output.data["text/plain"]
        assert 'class="ampd-card"' in output.data["text/html"]
    assert [output.output_type for output in notebook.cells[WAITING].outputs] == ["execute_result"]
    assert json.loads(notebook.cells[THREADS].outputs[0].text) == {"cards": 0, "ray": False}
    assert "<svg" in notebook.cells[RATES].outputs[0].data["text/html"]
    assert [output.output_type for output in notebook.cells[SILENT].outputs] == ["execute_result"]


def test_a_card_survives_a_database_that_drops_its_sessions(client: Client, job: Job, url: str) -> None:
    node, clock = Node(client, job), iter(range(10_000))
    node.moves(JobStatus.RUNNING)
    node.says(50)
    watcher = Watcher(client.job(job.id), lambda: float(next(clock)))
    assert "50.0 %" in watcher.look().bundle["text/plain"]
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and pid <> pg_backend_pid()"
        )
    views = [watcher.look() for _ in range(3)]
    assert not any(view.over for view in views)
    assert "50.0 %" in views[-1].bundle["text/plain"]
    node.says(75)
    assert "75.0 %" in watcher.look().bundle["text/plain"]


def test_a_card_of_a_closed_session_says_so_and_ends(client: Client, job: Job) -> None:
    watcher = Watcher(client.job(job.id), lambda: 0.0)
    assert not watcher.look().over
    client.close()
    view = watcher.look()
    assert view.over
    assert "closed" in view.bundle["text/plain"]
    assert not [thread for thread in threading.enumerate() if thread.name == "ampd-ray-card"]


def test_an_interrupted_wait_says_in_a_kernel_that_the_job_goes_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    said: list[Any] = []
    kernel = SimpleNamespace(kernel=True, display_pub=SimpleNamespace(publish=lambda **shown: said.append(shown)))
    monkeypatch.setattr(Job, "outcome", interrupted)
    for shell in (None, kernel):
        monkeypatch.setattr("IPython.get_ipython", lambda shell=shell: shell)
        with pytest.raises(KeyboardInterrupt):
            job.wait(progress=False)
    told = f"job {job.id} goes on; amp.job({job.id}) takes it up again"
    assert said == [{"data": {"text/plain": told}, "metadata": {}}]


def test_rates_come_from_postgres_for_any_handle(client: Client, job: Job) -> None:
    node = Node(client, job)
    assert job.rates().samples == ()
    node.moves(JobStatus.RUNNING)
    node.ends()
    (sample,) = client.job(job.id).rates().samples
    assert (sample.blocks_per_sec, sample.rows_per_sec, sample.requests_per_sec, sample.limit) == (
        20.0,
        80.0,
        4.0,
        "rpc",
    )
    assert '<b>20</b> <span class="mute">blocks/s on average' in job._repr_html_()
