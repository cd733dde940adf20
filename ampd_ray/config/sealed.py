"""Settings as they go through Ray: without secrets, which each machine has from its own environment or file.

Whatever an actor is given, Ray keeps in its tables and shows to whoever may look at them.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import NewType

from pydantic import ValidationError

from ampd_ray.config.keys import MetadataDb, OpenTelemetry, Settings, WorkerEvents
from ampd_ray.config.load import SCHEMA
from ampd_ray.config.sources import Entries, Entry, Key, combine, read_env, read_file, spelled_for
from ampd_ray.errors import ConfigError

Sealed = NewType("Sealed", Settings)

_URL: Key = ("metadata_db", "url")
_URL_VARIABLE = spelled_for(_URL, "AMP_CONFIG_")


def seal(settings: Settings) -> Sealed:
    """The settings without what may be secret; of that, actors use the database's address alone."""
    database = settings.metadata_db.model_copy(update={"url": None})
    cleared = {"metadata_db": database, "opentelemetry": OpenTelemetry(), "worker_events": WorkerEvents()}
    return Sealed(settings.model_copy(update=cleared))


def inherited(settings: Settings) -> dict[str, str]:
    """The variables in which processes below this one find what :func:`seal` takes out."""
    return {_URL_VARIABLE: settings.metadata_db.dsn()}


def unseal(settings: Sealed, env: Mapping[str, str]) -> Settings:
    """The settings with the database's address as this machine knows it. Raises :class:`ConfigError` if it does not."""
    found = _address(settings, env)
    told = settings.metadata_db.model_dump() | {"url": found.value}
    try:
        database = MetadataDb.model_validate(told)
    except ValidationError:
        raise ConfigError(
            f"metadata_db.url ({found.source} on {socket.gethostname()}): expected a URL such as "
            "postgresql://user:password@host:5432/database"
        ) from None
    return settings.model_copy(update={"metadata_db": database})


def _address(settings: Sealed, env: Mapping[str, str]) -> Entry:
    file: Entries = {}
    reason = "no configuration file was given"
    if settings.file is not None:
        try:
            file, reason = read_file(settings.file, SCHEMA), f"{settings.file} has no metadata_db.url"
        except ValueError as error:
            reason = str(error)
    found = combine(file, read_env(env, SCHEMA)).get(_URL)
    if found is None:
        raise ConfigError(
            f"the Ray node on {socket.gethostname()} does not know the metadata database: {reason}. Ray carries no "
            "secrets: start Ray there with AMP_CONFIG_METADATA_DB_URL set, or have a configuration file with "
            "metadata_db.url at the same path on every machine"
        )
    return found
