"""The configuration: Amp's TOML file and ``AMP_CONFIG_*`` as one frozen :class:`Settings`.

``spec/metadata-db.md`` 9.1 and 9.2. ``keys`` says what may be set, ``sources`` where it was set, ``load`` makes the
settings or one report of everything that is wrong, ``directories`` looks after the three directories, ``sealed`` keeps
secrets out of Ray.
"""

from ampd_ray.config.directories import check_directories, create_directories, local_path
from ampd_ray.config.hosts import authorities, is_loopback
from ampd_ray.config.keys import AmpdRay, Compression, MetadataDb, Settings, Writer
from ampd_ray.config.load import load_settings, redacted
from ampd_ray.config.sealed import Sealed, inherited, seal, unseal

__all__ = [
    "AmpdRay",
    "Compression",
    "MetadataDb",
    "Sealed",
    "Settings",
    "Writer",
    "authorities",
    "check_directories",
    "create_directories",
    "inherited",
    "is_loopback",
    "load_settings",
    "local_path",
    "redacted",
    "seal",
    "unseal",
]
