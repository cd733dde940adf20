-- name: put
-- Set a block aside, once more perhaps.
insert into ampd_ray.quarantine (location_group, block, reason, provider, evidence)
values (%(location_group)s, %(block)s, %(reason)s, %(provider)s, %(evidence)s::jsonb)
on conflict (location_group, block) do update
set reason = excluded.reason, provider = excluded.provider, evidence = excluded.evidence,
    attempts = quarantine.attempts + 1, last_seen = now();

-- name: listed
-- The blocks of a group that were set aside.
select block, reason, provider, attempts, first_seen, last_seen, evidence
from ampd_ray.quarantine where location_group = %(location_group)s order by block;

-- name: blocks
-- Their numbers.
select block from ampd_ray.quarantine where location_group = %(location_group)s order by block;

-- name: tables_with_files
-- The tables of a group that have a file.
select t.table_name
from physical_tables t
where concat(t.dataset_namespace, '/', t.dataset_name, '@', t.manifest_hash) = %(location_group)s
  and exists (select from file_metadata f where f.location_id = t.active_revision_id)
order by t.table_name;

-- name: clear
-- Forget them, up to a block if one is given.
delete from ampd_ray.quarantine
where location_group = %(location_group)s and (%(last)s::bigint is null or block <= %(last)s);
