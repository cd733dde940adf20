"""The writer actor as a plain class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampd_ray.actors.writer import WriterActor
from ampd_ray.config import load_settings, seal
from ampd_ray.errors import ActorLost


async def test_a_call_for_a_partition_that_was_given_up_finds_it_lost(tmp_path: Path) -> None:
    """An append may have waited in the actor's queue while its partition was discarded."""
    settings = load_settings(None, {"AMP_CONFIG_METADATA_DB_URL": "postgresql://127.0.0.1:1/a"}, solo_dir=tmp_path)
    writer = WriterActor(seal(settings), "test")
    extract: Any = None
    await writer.discard(7)
    with pytest.raises(ActorLost, match="partition 7"):
        await writer.append(7, extract)
    with pytest.raises(ActorLost, match="partition 7"):
        await writer.flush(7, "stop")
