"""``ampd_ray``'s own functions: sessions, and what is done with the one that is current."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Literal
from weakref import WeakSet

from ampd_ray.client import solo
from ampd_ray.client.backfills import begin
from ampd_ray.client.job import Job
from ampd_ray.client.request import BackfillRequest
from ampd_ray.client.session import Client
from ampd_ray.client.target import ConfigFile, DatabaseUrl, SoloDirectory, solo_directory, target_of
from ampd_ray.config import Settings, load_settings
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import AmpdError, ConfigError
from ampd_ray.metadb.jobs import JobRow

if TYPE_CHECKING:
    from ampd_ray.client.dataset import Dataset

_lock = RLock()  # who finds no session makes one, while the others wait for it
_open: list[Client] = []  # the newest is the current one
_without_worker: WeakSet[Client] = WeakSet()  # solo environments that were opened just to look


def connect(
    target: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    providers_dir: str | Path | None = None,
    manifests_dir: str | Path | None = None,
) -> Client:
    """A session with a database that is there; it becomes the current one. Starts no worker.

    ``target`` is a configuration file (``"amp.toml"``), a database (``"postgresql://host/database"``) or the directory
    of a solo environment (``".amp"``); without it ``AMP_CONFIG``, ``AMP_DIR`` or ``./.amp`` say which. The directories
    of a database are those of ``AMP_CONFIG``, of ``AMP_CONFIG_DATA_DIR`` and its like, or given here.

    Raises ``ConfigError``, ``NotFound`` for a directory without an environment, ``DatabaseUnavailable``,
    ``DatabaseRefused``.
    """
    given = {"data_dir": data_dir, "providers_dir": providers_dir, "manifests_dir": manifests_dir}
    directories = {name: str(path) for name, path in given.items() if path is not None}
    match target_of(target, os.environ):
        case SoloDirectory(path):
            if directories:
                raise ConfigError(f"{', '.join(directories)}: the solo environment in {path} has its own")
            return inspect(path)
        case ConfigFile(path):
            return _made_current(Client(_settings(path, directories)))
        case DatabaseUrl(url):
            config = os.environ.get("AMP_CONFIG")
            return _made_current(Client(_settings(Path(config) if config else None, directories, url)))


def local(amp_dir: str | Path = ".amp") -> Client:
    """A session with the solo environment in ``amp_dir``, which is started unless it runs; it becomes the current one.

    One that a session started lives as long as a session uses it or a job runs in it, then it ends by itself: it
    outlives a kernel that is restarted. Raises ``SoloFailed``, ``ConfigError``.
    """
    return _made_current(solo.local(amp_dir))


def inspect(amp_dir: str | Path = ".amp") -> Client:
    """A session with the database of the solo environment in ``amp_dir``; it becomes the current one.

    Starts no worker. Raises ``NotFound`` without an environment there.
    """
    return _made_current(solo.inspect(amp_dir))


def session() -> Client:
    """The current session: the newest that ``connect``, ``local`` or ``inspect`` made and that is not closed.

    Without one, ``connect()``.
    """
    with _lock:
        found = _current()
        if found is None:
            found = connect()
            if not os.environ.get("AMP_CONFIG"):
                _without_worker.add(found)
        return found


def chosen_session() -> Client | None:
    """The current session if there is one; none is made."""
    return _current()


def working_session() -> Client:
    """The current session if somebody chose it; else that of ``AMP_CONFIG``, else a solo environment that works."""
    with _lock:
        found = _current()
        if found is not None and found not in _without_worker:
            return found
        return connect() if os.environ.get("AMP_CONFIG") else local(solo_directory(os.environ))


def backfill(  # noqa: PLR0913 - the options of a backfill, each by its name
    client: Client | None = None,
    *,
    rpc: str,
    blocks: str,
    network: str | None = None,
    tables: Sequence[str] | None = None,
    writers: int = 1,
    verify: bool | Literal["full"] = False,
    priority: int | None = None,
) -> Job:
    """Start extracting ``blocks`` (``"15M:16M"``, ``"0:+1000"``, ``"-1000:"``; the end is excluded); returns at once.

    ``client`` is the current session, else that of ``AMP_CONFIG``, else a solo environment in ``AMP_DIR`` or ``./.amp``
    that is started if need be. ``verify`` and ``priority`` as in :class:`BackfillRequest`. The same call again
    resumes. An interrupt (Ctrl-C, a kernel's) stops no job, whether or not this call has returned: the same call again
    finds it.

    Raises ``InvalidRange``, ``InvalidName``, a ``ProviderError``, ``WrongChain``, ``JobConflict`` (the dataset is being
    filled with another range) or ``SchedulerError`` (no worker).
    """
    chosen = None if tables is None else tuple(tables)
    request = BackfillRequest(rpc, blocks, network, chosen, writers, verify, priority)
    request.checked()
    session = client or working_session()
    return session.run(begin(session, request))


def job(job_id: int) -> Job:
    """The handle of a job, also after a restart of the kernel or on another machine; ``NotFound`` if there is none."""
    return session().job(job_id)


def dataset(ref: DatasetRef | str) -> Dataset:
    """The current session's :meth:`Client.dataset`: ``amp.dataset("_/mainnet").coverage()``."""
    return session().dataset(ref)


def jobs(*, active_only: bool = False, limit: int = 1000) -> list[JobRow]:
    """The jobs of the current session's database, the newest first; in a notebook, a table."""
    return session().jobs(active_only=active_only, limit=limit)


def _forked() -> None:
    """Whoever made a session at that moment is not here, and gives nothing back."""
    global _lock  # noqa: PLW0603 - there is one of it
    _lock = RLock()


os.register_at_fork(after_in_child=_forked)


@atexit.register
def _close_all() -> None:
    """A script or kernel that ends leaves nothing behind that only it used."""
    while _open:
        with contextlib.suppress(AmpdError):
            _open.pop().close()


def _current() -> Client | None:
    return next((client for client in reversed(list(_open)) if not client.closed), None)


def _made_current(client: Client) -> Client:
    with _lock:
        _open[:] = [*(each for each in _open if not each.closed), client]
    return client


def _settings(config: Path | None, directories: dict[str, str], url: str | None = None) -> Settings:
    """The settings of a configuration with what was given beside it, which counts as the environment does."""
    given = {
        f"AMP_CONFIG_{name.upper()}": path if "://" in path else str(Path(path).expanduser().absolute())
        for name, path in directories.items()
    }
    env = dict(os.environ)
    if url is not None:
        env.pop("AMP_CONFIG_METADATA_DB_URL", None)  # the same under its old name
        given["AMP_CONFIG_METADATA_DB__URL"] = url
    return load_settings(config, env | given)
