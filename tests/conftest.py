"""Fixtures that every tier shares: where blocks come from, and where they go."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ampd_ray.clouds.machine import TOLD
from tests.fakes.anvil import Anvil
from tests.fakes.anvil import anvil as run_anvil
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.object_stores import S3Server
from tests.fakes.object_stores import moto as run_moto
from tests.fakes.object_stores import seaweed as run_seaweed
from tests.fakes.places import ANVIL, CHAIN_DATA, RPC_TOOLS, needs
from tests.fakes.replay import Replay, replay

pytest_plugins = ["tests.servers"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault(TOLD, "off")  # wherever the tests run; children inherit it

DEVNET_BLOCKS = 200
RECURSION_LIMIT = 1000  # Python's own


@pytest.fixture(autouse=True)
def usual_recursion_limit() -> Iterator[None]:
    """As in production: a library that tests import raises it so far that deep nesting overflows the stack."""
    sys.setrecursionlimit(RECURSION_LIMIT)
    yield
    sys.setrecursionlimit(RECURSION_LIMIT)


@pytest.fixture(scope="session")
def chain_data() -> Path:
    """The folder of real chain data beside the checkout."""
    return needs(CHAIN_DATA)


@pytest.fixture
def replay_server(chain_data: Path) -> Iterator[Callable[..., Replay]]:
    """Call it with set names (and ``options``) to serve real blocks: ``replay_server("mainnet-forks")``."""
    needs(RPC_TOOLS / "replay.py")
    with ExitStack() as running:
        yield lambda *sets, **settings: running.enter_context(replay(*sets, **settings))


@pytest.fixture(scope="module")
def devnet(request: pytest.FixtureRequest) -> Iterator[Devnet]:
    """A devnet at block 200, shared by a module: look, don't mine. Another height by indirect parametrisation."""
    with run_devnet(getattr(request, "param", DEVNET_BLOCKS)) as running:
        yield running


@pytest.fixture
def devnet_server() -> Iterator[Callable[..., Devnet]]:
    """Call it for a devnet of one's own: ``devnet_server(50, seed=2, block_time=0.1)``."""
    with ExitStack() as running:
        yield lambda *blocks, **settings: running.enter_context(run_devnet(*blocks, **settings))


@pytest.fixture
def anvil() -> Iterator[Callable[..., Anvil]]:
    """Call it for an anvil: ``anvil(block_time=0.1, slots_in_an_epoch=2)``."""
    if not ANVIL.is_file():
        pytest.fail("anvil is not installed: `make anvil`, which `make test` begins with", pytrace=False)
    with ExitStack() as running:
        yield lambda *block_time, **settings: running.enter_context(run_anvil(*block_time, **settings))


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """S3 as moto plays it."""
    with run_moto() as server:
        yield server


@pytest.fixture(scope="session")
def seaweed() -> Iterator[S3Server]:
    """A real object store that speaks S3."""
    with run_seaweed() as server:
        yield server
