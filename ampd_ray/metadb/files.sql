-- name: announce
-- Announce files before their first byte; their creation time is newer than every file of their revisions. Announced
-- again, a file keeps its time.
with newest as materialized (
    select max((metadata -> 'created_at' ->> 'secs')::bigint * 1000000000
               + (metadata -> 'created_at' ->> 'nanos')::bigint) as ns
    from file_metadata
    where location_id = any(%(location_ids)s) and %(newest_ns)s::bigint is null
),
created as materialized (
    select greatest(
        clock_timestamp(),
        timestamptz 'epoch' + (coalesce(%(newest_ns)s::bigint, ns, 0) + 999) / 1000 * interval '1 microsecond'
                            + interval '1 microsecond'
    ) as at
    from newest
)
insert into ampd_ray.file_intent (location_id, file_name, epoch, created_at)
select announced.location_id, announced.file_name, announced.epoch, created.at
from unnest(%(location_ids)s::bigint[], %(file_names)s::text[], %(epochs)s::bigint[])
         as announced (location_id, file_name, epoch),
     created
on conflict (location_id, file_name) do update set epoch = excluded.epoch
returning (extract(epoch from created_at) * 1000000000)::bigint as created_ns

-- name: lock_job
-- Keep the job's status as it is until the commit ends.
select node_id, upper(status) as status
from jobs_status
where job_id = %(job_id)s
for share

-- name: registered
-- The rows of those files that are registered.
select f.id, f.location_id, f.file_name, f.object_size, f.object_e_tag, f.metadata
from unnest(%(location_ids)s::bigint[], %(file_names)s::text[]) as wanted (location_id, file_name)
join file_metadata f using (location_id, file_name)

-- name: register
-- Register a file: from here on it exists for every reader. Without its footer Amp's server could not read the table.
with registered as (
    insert into file_metadata (location_id, file_name, metadata, object_size, object_e_tag, object_version, url)
    values (%(location_id)s, %(file_name)s, %(metadata)s::jsonb, %(size)s, %(e_tag)s, %(version)s, %(url)s)
    returning id
),
kept as (
    insert into footer_cache (file_id, footer) select id, %(footer)s from registered
)
select id from registered

-- name: fulfil_intents
-- Announced files are registered: nothing is left to sweep.
delete from ampd_ray.file_intent i
using unnest(%(location_ids)s::bigint[], %(file_names)s::text[]) as done (location_id, file_name)
where i.location_id = done.location_id and i.file_name = done.file_name

-- name: notify_changes
-- Tell those who read a revision that it has changed.
select pg_notify('change-tracking', location_id::text)
from unnest(%(location_ids)s::bigint[]) as changed (location_id)

-- name: summarise
-- Rows, files, bytes and blocks of the canonical segments that share a block with start..end, per table.
select r.id as location_id,
       r.metadata ->> 'table_name' as table_name,
       coalesce(sum(s.row_count), 0)::bigint as rows,
       count(s.file_id) as files,
       coalesce(sum(f.object_size), 0)::bigint as bytes,
       range_agg(s.blocks * int8range(%(start)s, %(end)s, '[]')) as covered
from physical_table_revisions r
left join (
    ampd_ray.segment s join file_metadata f on f.id = s.file_id
) on s.location_id = r.id and s.canonical and s.blocks && int8range(%(start)s, %(end)s, '[]')
where r.id = any(%(location_ids)s)
group by r.id
order by r.id

-- name: uncounted
-- The canonical files of which the index does not say how many rows they have within start..end: they reach out of it,
-- or their rows were never counted. Canonical files are disjoint: at most two of a revision reach out.
select r.metadata ->> 'table_name' as table_name, r.path, f.file_name,
       coalesce(s.row_count, 0)::bigint as counted, s.blocks <@ int8range(%(start)s, %(end)s, '[]') as within
from ampd_ray.segment s
join file_metadata f on f.id = s.file_id
join physical_table_revisions r on r.id = s.location_id
where s.location_id = any(%(location_ids)s) and s.canonical and s.blocks && int8range(%(start)s, %(end)s, '[]')
  and (s.row_count is null or not s.blocks <@ int8range(%(start)s, %(end)s, '[]'))
order by s.location_id, lower(s.blocks)

-- name: file_names
-- The registered files of a revision.
select file_name
from file_metadata
where location_id = %(location_id)s
order by id

-- name: canonical_files
-- The canonical files of some revisions that share a block with start..end (null: all), in the order of their blocks:
-- what a reader reads.
select s.location_id, f.file_name, lower(s.blocks) as first, upper(s.blocks) - 1 as last, f.object_size as size
from ampd_ray.segment s join file_metadata f on f.id = s.file_id
where s.location_id = any(%(location_ids)s) and s.canonical
  and (%(start)s::bigint is null or s.blocks && int8range(%(start)s::bigint, %(end)s::bigint, '[]'))
order by s.location_id, lower(s.blocks)
