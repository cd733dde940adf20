"""Names of files and directories in the data directory (``spec/commit.md`` 4, ``spec/data.md`` 5.1). Pure."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath

from ampd_ray.errors import StoreError

STAGING = ".ampd-ray-staging"  # beside the namespaces, never inside a revision: Amp deletes what it finds there


def file_name(  # noqa: PLR0913 - the ingredients of the name, as the specification lists them
    *,
    location_id: int,
    network: str,
    start: int,
    end: int,
    start_parent: bytes,
    end_hash: bytes,
    generation: int,
    writer_version: int,
    epoch: int,
) -> str:
    """``{start:09}-{H:016x}.parquet``: the same segment in the same epoch has the same name, in another one another.

    ``start_parent`` and ``end_hash`` are the 32-byte hashes that make the range unambiguous.
    """
    ingredients = [
        location_id,
        network,
        start,
        end,
        start_parent.hex(),
        end_hash.hex(),
        generation,
        writer_version,
        epoch,
    ]
    digest = hashlib.sha256(json.dumps(ingredients, separators=(",", ":")).encode()).digest()
    return f"{start:09}-{digest[:8].hex()}.parquet"


def revision_path(namespace: str, dataset: str, table: str, revision: str) -> str:
    """The directory of a table's revision (its UUID), relative to the data directory, without outer slashes."""
    return f"{namespace}/{dataset}/{table}/{revision}"


def is_in(directory: str, path: str) -> bool:
    """True if an object is directly in a directory, both as in rows."""
    return path.rpartition("/")[0] == directory


def staging_path(location_id: int, epoch: int | None = None) -> str:
    """Where unfinished files of a location are, of one epoch or of all, relative to the data directory."""
    return f"{STAGING}/{location_id}" if epoch is None else f"{STAGING}/{location_id}/{epoch}"


def inside(path: str, root: str) -> PurePosixPath:
    """``path`` as one below ``root``. Raises ``StoreError`` if it is none."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise StoreError(f"{path!r} is not a path inside {root}")
    return pure
