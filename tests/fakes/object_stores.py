"""Object stores that speak S3 on loopback: moto, which is small, and SeaweedFS, which is real."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from pyarrow.fs import FileSystem, S3FileSystem

from tests.fakes.process import running

BUCKET = "blocks"
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "AKIAAMPDTESTS", "a-secret-of-the-tests"
READY_SECS = 30.0


@dataclass(frozen=True)
class S3Server:
    """A running server with an empty bucket. ``env`` is what a process needs to use ``url``."""

    name: str
    endpoint: str

    @property
    def env(self) -> dict[str, str]:
        """Credentials, region and endpoint in the variables that all clients of S3 read."""
        return environment(self.endpoint)

    @property
    def files(self) -> FileSystem:
        """All buckets, as seen by another client than ours."""
        return S3FileSystem(
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            region=REGION,
            scheme="http",
            endpoint_override=self.endpoint.removeprefix("http://"),
            allow_bucket_creation=True,
        )

    def url(self, prefix: str = "") -> str:
        """The bucket, or a place in it."""
        return f"s3://{BUCKET}/{prefix}"


def environment(endpoint: str) -> dict[str, str]:
    """The variables to reach a server of the tests at ``endpoint``, which may be a proxy before it."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def moto() -> Iterator[S3Server]:
    """A moto server: S3 in memory, up within two seconds; it believes every signature."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    env = os.environ | {"S3_UPLOAD_PART_MIN_SIZE": "1"}  # so that a large file may be small
    with running(command, r"Running on (http://127\.0\.0\.1:\d+)", env=env) as ready:
        yield _with_bucket(S3Server("moto", ready[1]))


@contextmanager
def seaweed() -> Iterator[S3Server]:
    """A SeaweedFS server on a directory of its own: signatures are checked, objects are on disk."""
    with TemporaryDirectory(prefix="ampd-test-") as directory, ExitStack() as held:
        config = Path(directory, "s3.json")
        keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        config.write_text(json.dumps({"identities": [{"name": "tests", "credentials": keys, "actions": ["Admin"]}]}))
        ports = [held.enter_context(_reserved()) for _ in range(8)]
        parts = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
        options = [f"-{part}={port}" for part, port in zip(parts, ports, strict=True)]
        command = [str(Path(sys.executable).with_name("weed")), "-logtostderr", "server", f"-dir={directory}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={config}", "-master.telemetry=false"]
        command += ["-volume.max=20", "-master.volumeSizeLimitMB=256", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-filer.localSocket={directory}/filer.sock", f"-s3.localSocket={directory}/s3.sock"]
        held.close()
        with running([*command, *options], r"Start Seaweed S3 API Server", end_secs=0.1):  # it would take its time
            yield _with_bucket(S3Server("seaweed", f"http://127.0.0.1:{ports[0]}"))


def _with_bucket(server: S3Server) -> S3Server:
    """Make the bucket, as soon as the server can."""
    until = monotonic() + READY_SECS
    while True:
        try:
            server.files.create_dir(BUCKET)
        except OSError:
            if monotonic() > until:
                raise
        else:
            return server


@contextmanager
def _reserved() -> Iterator[int]:
    """A free port, not given away again while it is held."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]
