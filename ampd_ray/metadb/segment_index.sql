-- name: file_rows
-- The next registered files of a revision: what the canonical chain is derived from.
select id, file_name, metadata::text as metadata
from file_metadata
where location_id = %(location_id)s and id > %(after)s
order by id
limit %(limit)s

-- name: unindexed
-- The files of a revision that have no segment yet.
select f.id from file_metadata f
where f.location_id = %(location_id)s
  and not exists (select from ampd_ray.segment s where s.file_id = f.id)

-- name: drop_orphans
-- Forget the segments of a revision whose file row is gone.
delete from ampd_ray.segment s
where s.location_id = %(location_id)s
  and not exists (select from file_metadata f where f.id = s.file_id and f.location_id = s.location_id)

-- name: drop_segments
-- Forget what the index says of these files; it is written anew.
delete from ampd_ray.segment where file_id = any(%(file_ids)s)

-- name: add_segments
-- Index files whose rows are there; a segment that is there already keeps what it says.
insert into ampd_ray.segment
    (file_id, location_id, network, blocks, start_parent, end_hash, sha256, epoch, verified, canonical, row_count)
select file_id, %(location_id)s::bigint, network, int8range(first, last, '[]'), prev_hash, hash, sha256, epoch,
    verified, canonical, row_count
from unnest(
    %(file_id)s::bigint[], %(network)s::text[], %(start)s::bigint[], %(end)s::bigint[], %(prev_hash)s::bytea[],
    %(hash)s::bytea[], %(sha256)s::bytea[], %(epoch)s::bigint[], %(verified)s::text[], %(canonical)s::boolean[],
    %(row_count)s::bigint[]
) as new (file_id, network, first, last, prev_hash, hash, sha256, epoch, verified, canonical, row_count)
on conflict (file_id) do nothing

-- name: set_canonical
-- Mark segments as canonical or not, touching only those that change.
update ampd_ray.segment
set canonical = %(canonical)s
where file_id = any(%(file_ids)s) and canonical <> %(canonical)s
returning file_id

-- name: overlapping
-- The segments of a revision that share a block with start..end. Canonical ones are disjoint, so that at most one of
-- them reaches in from below; each part is an index scan. Those aside, which are few, come first and by themselves:
-- without statistics, as after a restore or an adoption, they would be looked for among all.
with aside as materialized (
    select file_id, network, blocks from ampd_ray.segment
    where location_id = %(location_id)s and not canonical
)
select file_id, blocks from ampd_ray.segment
where location_id = %(location_id)s and network = %(network)s
  and lower(blocks) between %(start)s and %(end)s
union
select file_id, blocks from (
    select file_id, blocks from ampd_ray.segment
    where location_id = %(location_id)s and network = %(network)s and canonical and lower(blocks) < %(start)s
    order by lower(blocks) desc
    limit 1
) as below
where upper(blocks) > %(start)s
union
select file_id, blocks from aside
where network = %(network)s and blocks && int8range(%(start)s, %(end)s, '[]')

-- name: branches_above
-- True if a revision has segments off the canonical chain while some segment ends at or above a block: then a new
-- file may decide between branches.
select exists (
    select from ampd_ray.segment where location_id = %(location_id)s and not canonical
) and (
    exists (
        select from ampd_ray.segment
        where location_id = %(location_id)s and not canonical and upper(blocks) > %(start)s
    )
    or coalesce(%(start)s < (
        select upper(blocks) from ampd_ray.segment
        where location_id = %(location_id)s and network = %(network)s and canonical
        order by lower(blocks) desc
        limit 1
    ), false)
) as branches
