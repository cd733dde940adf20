-- name: superseded
-- Files of a revision that were announced under a lower epoch than the one we hold, and can be committed no more.
-- Those swept already come again after a while: a writer that was paused may have uploaded since.
select i.file_name, i.epoch, i.swept_at is not null as swept
from ampd_ray.location_lease l
join ampd_ray.file_intent i on i.location_id = l.location_id and i.epoch < l.epoch
where l.location_id = %(location_id)s and l.epoch = %(epoch)s and i.file_name > %(after)s
  and (i.swept_at is null or i.swept_at <= now() - %(again_after)s::interval)
  and not exists (select from file_metadata f where f.location_id = i.location_id and f.file_name = i.file_name)
order by i.file_name
limit %(limit)s

-- name: mark_swept
-- The objects of these files are deleted now; the time of the first sweep stays.
update ampd_ray.file_intent i set swept_at = now()
from ampd_ray.location_lease l
where l.location_id = %(location_id)s and l.epoch = %(epoch)s
  and i.location_id = l.location_id and i.epoch < l.epoch and i.file_name = any(%(names)s) and i.swept_at is null

-- name: forget_swept
-- Files that were first swept long ago, and have just been looked at again, are forgotten.
delete from ampd_ray.file_intent i
using ampd_ray.location_lease l
where l.location_id = %(location_id)s and l.epoch = %(epoch)s
  and i.location_id = l.location_id and i.epoch < l.epoch and i.file_name = any(%(names)s)
  and i.swept_at <= now() - %(forget_after)s::interval

-- name: drop_fulfilled
-- A file that was announced again after it had been committed is no intent any more.
delete from ampd_ray.file_intent i
using ampd_ray.location_lease l
where l.location_id = %(location_id)s and l.epoch = %(epoch)s and i.location_id = l.location_id and i.epoch < l.epoch
  and exists (select from file_metadata f where f.location_id = i.location_id and f.file_name = i.file_name)

-- name: queue
-- Have replaced files deleted when nobody reads them any more. A bare name that waits for another file, which only one
-- of another writer can, stays registered.
insert into gc_manifest (location_id, file_id, file_path, expiration)
select f.location_id, f.id, f.file_name,
       now() at time zone 'utc' + greatest(%(after)s::interval, interval '1 second')
from file_metadata f
where f.id = any(%(file_ids)s)
  and not exists (select from gc_manifest g where g.file_path = f.file_name and g.file_id <> f.id)
on conflict (file_id) do update set expiration = excluded.expiration

-- name: unqueue
-- Files that are on the chain are not to be deleted.
delete from gc_manifest where file_id = any(%(file_ids)s)

-- name: buried
-- The object of one of these names is about to be deleted.
select t.url
from unnest(%(location_ids)s::bigint[], %(names)s::text[]) as wanted (location_id, name)
join ampd_ray.tombstone t
  on t.location_id = wanted.location_id and substring(t.url from '[^/]*$') = wanted.name
limit 1

-- name: lock_lease
-- Let nobody commit to a revision while its files are collected; no row if it changed hands or a commit is under way.
select location_id from ampd_ray.location_lease
where location_id = %(location_id)s and epoch = %(epoch)s
for update skip locked

-- name: expired
-- Files off the chain that were replaced so long ago that nobody reads them any more.
select g.file_id
from gc_manifest g
join ampd_ray.segment s on s.file_id = g.file_id and not s.canonical
where g.location_id = %(location_id)s and g.expiration < now() at time zone 'utc'
order by g.file_id
limit %(limit)s

-- name: bury
-- Remember the objects of files whose rows are about to go.
insert into ampd_ray.tombstone (url, location_id)
select rtrim(f.url, '/') || '/' || f.file_name, f.location_id
from file_metadata f
where f.id = any(%(file_ids)s) and f.location_id = %(location_id)s
on conflict do nothing

-- name: unregister
-- Files that exist for no reader any more; their footers and gc_manifest rows go with them.
delete from file_metadata where id = any(%(file_ids)s) and location_id = %(location_id)s

-- name: unindex
-- The segments of files that are not registered any more.
delete from ampd_ray.segment where file_id = any(%(file_ids)s)

-- name: tombstones
-- The next objects of a revision to delete: those whose row is gone.
select t.url
from ampd_ray.tombstone t
where t.location_id = %(location_id)s and t.url > %(after)s
  and not exists (
      select from file_metadata f
      where f.location_id = t.location_id and f.file_name = substring(t.url from '[^/]*$')
  )
order by t.url
limit %(limit)s

-- name: drop_tombstones
-- These objects are deleted.
delete from ampd_ray.tombstone where url = any(%(urls)s)

-- name: idle
-- Revisions of a fail-over group that nobody holds and that have something to sweep.
select l.location_id, l.epoch, r.path
from ampd_ray.location_lease l
join physical_table_revisions r on r.id = l.location_id
join workers w on w.node_id = l.node_id
where l.expires_at < now() - %(idle_for)s::interval
  and w.info ->> 'implementation' = 'ampd-ray' and w.info ->> 'failover_group' = %(failover_group)s
  and (
      exists (select from ampd_ray.file_intent i where i.location_id = l.location_id)
      or exists (select from ampd_ray.tombstone t where t.location_id = l.location_id)
      or exists (
          select from gc_manifest g
          where g.location_id = l.location_id and g.expiration < now() at time zone 'utc'
      )
  )
order by l.location_id

-- name: supersede
-- Give a revision that nobody holds, and whose job is at an end, another epoch, if its last holder left files behind.
update ampd_ray.location_lease l set epoch = l.epoch + 1
where l.location_id = %(location_id)s and l.epoch = %(epoch)s and l.expires_at <= now()
  and exists (select from ampd_ray.file_intent i where i.location_id = l.location_id and i.epoch = l.epoch)
  and not exists (select from jobs_status s where s.job_id = l.job_id and not upper(s.status) = any(%(terminal)s))
returning l.epoch

-- name: forget_segments
-- Segments of revisions that were deleted.
delete from ampd_ray.segment s
where not exists (select from physical_table_revisions r where r.id = s.location_id)

-- name: forget_intents
-- Announced files of revisions that were deleted.
delete from ampd_ray.file_intent i
where not exists (select from physical_table_revisions r where r.id = i.location_id)

-- name: forget_leases
-- Leases of revisions that were deleted; their ids never come back, so no epoch falls.
delete from ampd_ray.location_lease l
where not exists (select from physical_table_revisions r where r.id = l.location_id)
