"""``deploy/Containerfile``: what a linter of container files says, and that the build finds what it copies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grpc
import pytest
import yaml

from ampd_ray import __version__
from tests.fakes.hosts import free_port
from tests.fakes.places import REPO
from tests.fakes.process import running

FILE = REPO / "deploy" / "Containerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, FILE], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_finds_what_is_wrong(tmp_path: Path) -> None:
    spoilt = tmp_path / "Containerfile"
    spoilt.write_text(FILE.read_text().replace("USER 1000", "USER root").replace("python:3.12-slim-bookworm", "python"))
    done = subprocess.run([HADOLINT, spoilt], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert {"DL3002", "DL3006"} <= set(re.findall(r"DL\d+", done.stdout))  # root, and whatever Python is the newest


def test_the_build_sees_what_it_needs_and_no_configuration() -> None:
    first, *lines = [line for line in (REPO / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    seen = {line.removeprefix("!") for line in lines if line.startswith("!")}
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    copied = re.findall(r"^COPY (?!--from)(\S+)", FILE.read_text(), re.MULTILINE)
    assert seen == {"pyproject.toml", "ampd_ray", project["readme"], *project["license-files"], *copied} - {"."}
    assert all((REPO / name).exists() for name in seen)


def test_the_files_name_the_image_of_this_version() -> None:
    (kuberay,) = [document for document in documents() if document["kind"] == "RayCluster"]
    named = set(re.findall(r"\S+/ampd-ray:[\w.]+", FILE.read_text() + yaml.dump(kuberay)))
    named.add(yaml.safe_load((REPO / "cluster.yaml").read_text())["docker"]["image"])
    assert {image.rpartition(":")[2] for image in named} == {__version__}
    assert len(named) == 1


def documents() -> list[dict[str, object]]:
    return list(yaml.safe_load_all((REPO / "deploy" / "kuberay.yaml").read_text()))


def test_whatever_starts_ray_in_it_starts_it_locked() -> None:
    environment = dict(re.findall(r"(\w+)=(\S+)", FILE.read_text().partition("ENV ")[2].partition("CMD")[0]))
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["HOME"] == "/home/ray"  # where Ray's launcher mounts what it finds as ~


CLIENT_SERVER = """
import signal, sys
from ray.util.client.server.proxier import serve_proxier
serving = serve_proxier("127.0.0.1", int(sys.argv[1]), None)
print("serving", flush=True)
signal.pause()
"""


def test_rays_client_server_lets_nobody_in_without_the_token() -> None:
    """A head opens one wherever grpcio is installed, which comes with Ray's dashboard."""
    port, token = free_port(), "1" * 64
    command = [sys.executable, "-c", CLIENT_SERVER, str(port)]
    env = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with running(command, "serving", env=env), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/ray.rpc.RayletDriver/ClusterInfo")
        said = {}
        for told in ("", "0" * 64, token):
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", metadata=[("authorization", f"Bearer {told}")] if told else (), timeout=20)
            said[told] = refused.value.code()
    assert said[""] is said["0" * 64] is grpc.StatusCode.UNAUTHENTICATED
    assert said[token] is not grpc.StatusCode.UNAUTHENTICATED, "it asks who the client is, and then for a cluster"
