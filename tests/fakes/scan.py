"""What somebody without a token gets from the TCP ports of HOST: all of them, or those that are named.

python -m tests.fakes.scan HOST [PORT ...]

prints JSON, by port what answers. Whatever is open is spoken to as Ray's own clients and browsers do.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import repeat

import grpc

WITHIN_SECS = 2.0
AT_ONCE = 16
REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE)
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetClusterId",
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.ActorInfoGcsService/GetAllActorInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.LogService/ListLogs",
    "/grpc.health.v1.Health/Check",
)
PAGES = ("/", "/metrics", "/nodes?view=details", "/api/version", "/api/jobs/", "/api/job_agent/jobs/", "/api/v0/actors")
REFUSED_PAGES = (401, 403, 404, 405, 415)
METRICS = b"# HELP"  # a page of Prometheus's, at any path


def open_ports(host: str, ports: Iterable[int]) -> Iterator[int]:
    """The ports that accept connections."""
    for port in ports:
        with socket.socket() as knocking:
            knocking.settimeout(WITHIN_SECS)
            if knocking.connect_ex((host, port)) == 0:
                yield port


def answers(host: str, port: int) -> list[str]:
    """What a port gives to somebody whom it does not know."""
    return sorted({*_calls(host, port), *_pages(host, port)})


def _calls(host: str, port: int) -> Iterator[str]:
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for name in CALLS:
            try:
                channel.unary_unary(name)(b"", timeout=WITHIN_SECS)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return  # it speaks something else
                if error.code() not in {*REFUSALS, grpc.StatusCode.DEADLINE_EXCEEDED}:
                    yield f"{name}: {error.code().name}"  # it came as far as to be looked at
            else:
                yield name


def _pages(host: str, port: int) -> Iterator[str]:
    for page in PAGES:
        with closing(http.client.HTTPConnection(host, port, timeout=WITHIN_SECS)) as client:
            try:
                client.request("GET", page)
                response = client.getresponse()
                begins = response.read(len(METRICS))
            except (OSError, http.client.HTTPException):
                return
            if response.status not in REFUSED_PAGES:
                yield "metrics" if begins == METRICS else f"{page}: {response.status}"


if __name__ == "__main__":
    _, host, *named = sys.argv
    found = list(open_ports(host, [int(port) for port in named] or range(1, 1 << 16)))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        print(json.dumps(dict(zip(found, threads.map(answers, repeat(host), found), strict=True))))
