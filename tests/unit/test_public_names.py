"""What ``import ampd_ray as amp`` gives, and what it does not import for it."""

from __future__ import annotations

import subprocess
import sys

import ampd_ray as amp


def test_every_public_name_is_there_and_a_shell_completes_them() -> None:
    assert amp.__all__ == sorted(amp.__all__)
    assert set(dir(amp)) == set(amp.__all__)
    for name in amp.__all__:
        assert getattr(amp, name) is not None


def test_all_that_is_exported_to_be_caught_is_an_error_of_ours_or_a_warning() -> None:
    errors = [getattr(amp, name) for name in amp.__all__]
    caught = [error for error in errors if isinstance(error, type) and issubclass(error, Exception)]
    assert amp.JobFailed in caught
    assert all(issubclass(error, amp.AmpdError | Warning) for error in caught)


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, ampd_ray as amp\n"
        "assert amp.local and amp.connect and amp.backfill and amp.job and amp.aio.local\n"
        "heavy = {'ray', 'pyarrow', 'numpy', 'pandas', 'polars', 'duckdb', 'matplotlib', 'aiohttp', 'typer', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_a_session_may_raise_can_be_caught_by_its_name() -> None:
    raised = {"BeyondHead", "DatabaseFault", "NodeInUse", "SchemaMismatch", "SoloFailed"}
    assert raised <= set(amp.__all__)


def test_in_a_notebook_the_pool_does_not_speak_of_each_attempt() -> None:
    code = (
        "import logging, ampd_ray.metadb.connection\n"
        "logging.getLogger('psycopg.pool').warning('error connecting')"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert done.stderr == ""
