"""Secrets are in the processes that need them, and nowhere else: looked for wherever something could have put them.

That the search would find them is shown by a word that is no secret: somebody on the same cluster puts it wherever Ray
keeps what it is told, and it is the name of the worker. Each place has to have that one.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import psutil
import pytest

from ampd_ray.client.job import Job
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.store.files import open_store
from tests.fakes import search
from tests.fakes.bucket import Outside
from tests.fakes.cluster import tree_of
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.object_stores import S3Server
from tests.fakes.places import REPO
from tests.fakes.raylets import Raylets, raylets
from tests.fakes.site import Site, add_provider, ends_as, make_site, register, wait_until
from tests.fakes.worker import AMPD, Worker, environment
from tests.servers import Server, as_owner, fresh_database

LAST = 40
NOWHERE = "127.0.0.1:1"  # where nobody listens
pytestmark = pytest.mark.timeout(400)

Places = dict[str, Callable[[], Iterator[bytes]]]


def word(name: str) -> str:
    return f"{name}{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Planted:
    """The secrets, and the word that is none."""

    password: str = field(default_factory=lambda: word("pw"))
    rpc_token: str = field(default_factory=lambda: word("tk"))
    rpc_key: str = field(default_factory=lambda: word("key"))
    s3_secret: str = field(default_factory=lambda: word("s3"))
    s3_session: str = field(default_factory=lambda: word("st"))
    kafka: str = field(default_factory=lambda: word("ka"))
    telemetry: str = field(default_factory=lambda: word("ot"))
    known: str = field(default_factory=lambda: word("known-"))

    def env(self, store: S3Server) -> dict[str, str]:
        """What the machine of a worker and its actors has in its environment."""
        return store.env | {
            "RPC_TOKEN": self.rpc_token,
            "AWS_SECRET_ACCESS_KEY": self.s3_secret,
            "AWS_SESSION_TOKEN": self.s3_session,
            "AMPD_RAY_FAILPOINTS": "mid-file=raise",  # and a writer that fails
        }


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ampd-", dir="/tmp"))  # sockets' paths are short
    yield made
    shutil.rmtree(made, ignore_errors=True)


class Echo(BaseHTTPRequestHandler):
    """A node that refuses everybody and quotes how it was asked."""

    def do_POST(self) -> None:
        said = f"refused: {self.path} {dict(self.headers)}".encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def echo() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def make(directory: Path, url: str, chain: Devnet, refusing: str, planted: Planted) -> Site:
    """A configuration with all secrets that it can have, and three providers: good, refusing, absent."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    with_password = parts._replace(netloc=f"{user}:{planted.password}@{host}").geturl()
    site = make_site(directory, with_password, chain.url, root="s3://blocks/amp", extractors=1)
    with site.config.open("a") as config:
        config.write(f'[opentelemetry]\ntrace_url = "http://example.org/{planted.telemetry}"\n')
        config.write(f'[worker_events.kafka]\nbrokers = ["example.org:9092"]\nsasl_password = "{planted.kafka}"\n')
    for network, rpc in (("devnet", chain.url), ("refusing", refusing), ("absent", f"http://{NOWHERE}")):
        add_provider(site, network, f"{rpc}/?apikey={planted.rpc_key}", auth_token="${RPC_TOKEN}")
    return site


def run(site: Site, node_id: str) -> None:
    """Jobs that end well, badly, and not at all."""
    with site.client() as client:

        def deploy(network: str) -> Job:
            descriptor = register(client, network, network).model_copy(update={"end_block": str(LAST)})
            return client.deploy(descriptor, node_id)

        absent, refused, good = deploy("absent"), deploy("refusing"), deploy("devnet")
        assert ends_as(client, good.id) is JobStatus.COMPLETED
        assert ends_as(client, refused.id) in {JobStatus.ERROR, JobStatus.FATAL}
        wait_until(lambda: absent.status() in {JobStatus.RUNNING, JobStatus.ERROR}, what="the third job")


def refused_commands(site: Site, planted: Planted) -> Iterator[bytes]:
    """What commands say to which the database is closed, or whose configuration is wrong."""
    for url in (f"postgresql://amp:{planted.password}@{NOWHERE}/amp", f"postgres:/amp:{planted.password}@db"):
        env = {"AMP_CONFIG_METADATA_DB__URL": url, "AMP_CONFIG_AMPD_RAY__CONNECT_TIMEOUT_SECS": "0", "AMP_LOG": "debug"}
        command = [str(AMPD), "worker", "--config", str(site.config), "--node-id", planted.known]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60, env=environment(env))
        assert done.returncode == 1
        assert b" traceback=" in done.stderr
        yield f"{planted.known}: ".encode() + done.stdout + done.stderr


@contextmanager
def canary(cluster: Raylets, known: str) -> Iterator[tuple[Path, bytes]]:
    """Somebody who puts the word wherever Ray keeps what it is told; Ray's logs, and what its state API says."""
    command = [sys.executable, "-m", "tests.fakes.canary", cluster.address, cluster.host(1), known]
    process = subprocess.Popen(
        command, cwd=REPO, env=environment(cluster.env), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = next(line for line in process.stdout if line.startswith("planted: "))
        process.stdin.write("\n")
        process.stdin.flush()
        state = next(line for line in process.stdout if line.startswith("{"))
        yield Path(said.removeprefix("planted: ").strip()), state.encode()
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def bucket(store: S3Server) -> Iterator[bytes]:
    """Data and manifests, names and contents; the providers' files beside them do hold secrets."""
    outside = Outside(store)
    for key in outside.objects():
        if "/providers/" not in key:
            yield key.encode() + outside.read(key)


def everywhere(cluster: Raylets, worker: Worker, store: S3Server, url: str, session: Path, state: bytes) -> Places:
    """The places, each read when it is looked at."""
    gcs = next(each for each in cluster.processes() if each.name() == "gcs_server")
    raylet = psutil.Process(cluster.pid(1))
    return {
        "Ray's tables: arguments, runtime environments, jobs, tasks": lambda: search.memory(gcs),
        "Ray's state API": lambda: iter([state]),
        "the object store": lambda: search.memory(raylet, of="plasma"),
        "Ray's files, logs of all its processes among them": lambda: search.files(session),
        "titles": lambda: search.titles([psutil.Process(), *tree_of(1)]),
        "the worker's output": lambda: iter([worker.log().encode()]),
        "rows": lambda: search.rows(as_owner(url)),
        "data and manifests": lambda: bucket(store),
    }


def test_no_secret_is_where_it_has_no_business(
    directory: Path, tmp_path: Path, embedded: Server, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted()
    machine = planted.env(moto)
    with (
        fresh_database(embedded) as url,
        run_devnet(LAST) as chain,
        echo() as refusing,
        raylets(directory) as cluster,
    ):
        for name in filter(lambda name: name.startswith("AWS_"), machine):
            monkeypatch.setenv(name, machine[name])  # the cluster's head has started without
        site = make(tmp_path / "site", url, chain, refusing, planted)
        cluster.add(cpus=0, dashboard=True)  # where Ray's tables are, and no secret is needed
        cluster.add(cpus=1, env=machine)
        at = [sys.executable, "-m", "tests.fakes.on_raylet", cluster.host(1)]
        env: Mapping[str, str] = cluster.env | machine | {"AMP_LOG": "debug"}
        worker = Worker(site, planted.known, ["--address", cluster.address], env, ampd=at)
        try:
            run(site, worker.up().node_id)
            open_store(site.settings().data_dir).write("known", planted.known.encode())
            with canary(cluster, planted.known) as (session, state):
                places = everywhere(cluster, worker, moto, url, session, state)
                found = {place: search.counts(vars(planted), texts()) for place, texts in places.items()}
        finally:
            worker.end()
        found["output of commands that are refused"] = search.counts(vars(planted), refused_commands(site, planted))
    print(*(f"{place}: {dict(hits)}" for place, hits in found.items()), sep="\n")
    blind = [place for place, hits in found.items() if not hits.pop("known", 0)]
    assert blind == [], "what everybody may know is not found there"
    assert {place: dict(hits) for place, hits in found.items() if hits} == {}
