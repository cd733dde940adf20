"""I6, at the only moment at which it can be seen: each segment, when its transaction commits, against its lease."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

PLACE = """
create schema chaos;
create table chaos.stale (file_id bigint, epoch bigint, lease bigint);
create function chaos.look() returns trigger language plpgsql security definer as $$
declare lease bigint := (select epoch from ampd_ray.location_lease where location_id = new.location_id);
begin
    if lease is distinct from new.epoch then
        insert into chaos.stale values (new.file_id, new.epoch, lease);
    end if;
    return null;
end $$;
create constraint trigger witness after insert on ampd_ray.segment
    deferrable initially deferred for each row execute function chaos.look();
"""
STALE = "select file_id, epoch, lease from chaos.stale order by file_id"


def place(connection: psycopg.Connection[Any]) -> None:
    """Have every commit seen from now on."""
    connection.execute(PLACE)


def testimony(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """I6: which files were committed under another epoch than that of their revision's lease."""
    for file_id, epoch, lease in connection.execute(STALE).fetchall():
        yield f"I6 file {file_id}: committed under epoch {epoch} when its lease had {lease}"
