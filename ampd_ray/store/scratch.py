"""Where this machine keeps the unfinished files of an object store."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from ampd_ray.errors import StoreError
from ampd_ray.store.disk import errors


def scratch(url: str) -> Path:
    """This user's directory for the store at ``url``, made if need be, in the place that ``TMPDIR`` names.

    Raises ``StoreError`` if somebody else could put files there: they would be taken for ours.
    """
    top = Path(tempfile.gettempdir()).resolve() / f"ampd-ray-{os.getuid()}"
    root = top / hashlib.sha256(url.encode()).hexdigest()[:16]
    with errors("make", root):
        top.mkdir(mode=0o700, exist_ok=True)
        status = top.lstat()
        if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
            raise StoreError(f"{top} is not a directory of this user alone; remove it, or set TMPDIR to another place")
        root.mkdir(exist_ok=True)
    return root
