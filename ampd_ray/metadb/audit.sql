-- name: file_rows
-- The next files of a revision with what the index and the collector's queue say of them.
select f.id, f.file_name, f.url, f.metadata::text as metadata, f.object_size,
       s.file_id is not null as indexed, s.location_id = f.location_id as at_home, s.network,
       lower(s.blocks) as first, upper(s.blocks) - 1 as last, s.start_parent, s.end_hash,
       s.sha256, s.epoch, s.verified, s.canonical, s.row_count,
       exists (select from gc_manifest g where g.file_id = f.id) as queued
from file_metadata f
left join ampd_ray.segment s on s.file_id = f.id
where f.location_id = %(location_id)s and f.id > %(after)s
order by f.id
limit %(limit)s

-- name: totals
-- How much there is to check in some revisions.
select count(*) as files, coalesce(sum(object_size), 0)::bigint as bytes
from file_metadata
where location_id = any(%(location_ids)s)

-- name: footers
-- What Amp's server reads instead of the files' own footers.
select file_id, footer from footer_cache where file_id = any(%(file_ids)s)

-- name: stray_segments
-- Index rows of a revision without a file.
select s.file_id, lower(s.blocks) as first, upper(s.blocks) - 1 as last
from ampd_ray.segment s
where s.location_id = %(location_id)s
  and not exists (select from file_metadata f where f.id = s.file_id and f.location_id = s.location_id)
order by s.file_id

-- name: unknown_names
-- Of these names of objects in a revision's directory those that no row of any kind accounts for.
select found.name
from unnest(%(names)s::text[]) as found (name)
where not exists (
    select from file_metadata f where f.location_id = %(location_id)s and f.file_name = found.name
) and not exists (
    select from ampd_ray.file_intent i where i.location_id = %(location_id)s and i.file_name = found.name
) and not exists (
    select from ampd_ray.tombstone t
    where t.location_id = %(location_id)s and substring(t.url from '[^/]*$') = found.name
)

-- name: intents
-- The announced files of a revision, and whether their epoch holds it, held it last or was superseded.
select i.file_name, i.epoch, i.swept_at is not null as swept,
       coalesce(l.epoch = i.epoch, false) as current, coalesce(l.epoch = i.epoch and l.expires_at > now(), false) as live,
       exists (
           select from file_metadata f where f.location_id = i.location_id and f.file_name = i.file_name
       ) as registered
from ampd_ray.file_intent i
left join ampd_ray.location_lease l on l.location_id = i.location_id
where i.location_id = %(location_id)s
order by i.file_name

-- name: tombstones
-- The objects of a revision that are still to be deleted, and whether one of them is registered all the same.
select t.url, exists (
    select from file_metadata f
    where f.location_id = t.location_id and f.file_name = substring(t.url from '[^/]*$')
) as registered
from ampd_ray.tombstone t
where t.location_id = %(location_id)s
order by t.url

-- name: epoch
-- The epoch of the newest lease of a revision.
select epoch from ampd_ray.location_lease where location_id = %(location_id)s

-- name: registered
-- Those of some files that are registered now.
select id from file_metadata where id = any(%(file_ids)s);

-- name: levels
-- How many live blocks of a revision are verified how far.
select coalesce(verified, 'none') as level, sum(upper(blocks) - lower(blocks))::bigint as blocks
from ampd_ray.segment where location_id = %(location_id)s and canonical group by 1 order by 1;
