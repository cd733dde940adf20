-- name: active_revision
-- The active revision of one table of one dataset.
select r.id, r.path
from physical_tables t
join physical_table_revisions r on r.id = t.active_revision_id
where t.dataset_namespace = %(namespace)s and t.dataset_name = %(name)s
  and t.manifest_hash = %(hash)s and t.table_name = %(table)s

-- name: active_revisions
-- The active revisions of all tables of one dataset.
select t.table_name, r.id, r.path
from physical_tables t
join physical_table_revisions r on r.id = t.active_revision_id
where t.dataset_namespace = %(namespace)s and t.dataset_name = %(name)s and t.manifest_hash = %(hash)s
order by t.table_name

-- name: written_by
-- The active revisions that a job writes.
select t.table_name, r.id, r.path
from physical_table_revisions r
join physical_tables t on t.active_revision_id = r.id
where r.writer = %(job_id)s
order by t.table_name

-- name: same_manifest
-- Other datasets with the same manifest and an active revision of the table: Amp's readers cannot tell them apart.
select t.dataset_namespace || '/' || t.dataset_name as dataset
from physical_tables t
where t.manifest_hash = %(hash)s and t.table_name = %(table)s and t.active_revision_id is not null
  and (t.dataset_namespace, t.dataset_name) <> (%(namespace)s, %(name)s)
order by dataset

-- name: lock_creation
-- One process at a time makes the first revision of a table.
select pg_advisory_xact_lock(hashtextextended(
    concat_ws('/', 'ampd_ray:revision', %(namespace)s::text, %(name)s::text, %(hash)s::text, %(table)s::text), 0))

-- name: add_revision
-- A new directory; a path that is there already stays what it is.
insert into physical_table_revisions (path, metadata)
values (%(path)s, jsonb_build_object(
    'dataset_namespace', %(namespace)s::text, 'dataset_name', %(name)s::text,
    'manifest_hash', %(hash)s::text, 'table_name', %(table)s::text))
on conflict (path) do update set path = excluded.path
returning id, path

-- name: activate
-- Make a revision the one that readers of the table see.
insert into physical_tables (dataset_namespace, dataset_name, manifest_hash, table_name, active_revision_id)
values (%(namespace)s, %(name)s, %(hash)s, %(table)s, %(revision_id)s)
on conflict (dataset_namespace, dataset_name, manifest_hash, table_name) do update
set active_revision_id = excluded.active_revision_id, updated_at = now() at time zone 'utc'

-- name: set_writer
-- Say which job writes revisions: progress shows only those, and operators may not delete them meanwhile.
update physical_table_revisions
set writer = %(job_id)s, updated_at = now() at time zone 'utc'
where id = any(%(location_ids)s)
