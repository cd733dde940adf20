"""Two machines on a network of their own, for root on Linux: network namespaces with a cable between them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

HOSTS = ("10.251.83.1", "10.251.83.2")
CABLE = ("ampd-a", "ampd-b")


@dataclass(frozen=True)
class Machine:
    """One of them: the process whose network it is, and its address."""

    pid: int
    host: str

    def inside(self, *command: str) -> list[str]:
        """The command that runs ``command`` there; it sees the same files as here."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]


def may_make_networks() -> bool:
    """True for root, unless a container keeps that from it."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0


@contextmanager
def neighbours() -> Iterator[tuple[Machine, Machine]]:
    """Two machines that reach each other and nobody else."""
    with ExitStack() as stack:
        machines = [Machine(stack.enter_context(_network()), host) for host in HOSTS]
        _run("ip", "link", "add", CABLE[0], "type", "veth", "peer", "name", CABLE[1])
        for machine, end in zip(machines, CABLE, strict=True):
            _run("ip", "link", "set", end, "netns", str(machine.pid))
            _run(*machine.inside("ip", "addr", "add", f"{machine.host}/24", "dev", end))
            for link in ("lo", end):
                _run(*machine.inside("ip", "link", "set", link, "up"))
        yield machines[0], machines[1]


@contextmanager
def _network() -> Iterator[int]:
    """The process that keeps a network alive; the ends of cables in it go with it."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo made; exec sleep 1000"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "made\n"
            yield process.pid
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
