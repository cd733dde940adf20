-- name: register_manifest
-- Register a manifest whose object is written; one that is registered stays as it is.
insert into manifest_files (hash, path, kind)
values (%(hash)s, %(path)s, %(kind)s)
on conflict (hash) do nothing

-- name: manifest
-- Where a manifest's object is, and of which kind.
select hash, path, kind from manifest_files where hash = %(hash)s

-- name: link
-- A manifest belongs to a dataset.
insert into dataset_manifests (namespace, name, hash)
values (%(namespace)s, %(name)s, %(hash)s)
on conflict (namespace, name, hash) do nothing

-- name: set_tag
-- Point a tag of a dataset to a linked manifest.
insert into tags (namespace, name, version, hash)
values (%(namespace)s, %(name)s, %(version)s, %(hash)s)
on conflict (namespace, name, version) do update
set hash = excluded.hash, updated_at = now() at time zone 'utc'
where tags.hash <> excluded.hash

-- name: lock_dataset
-- One process at a time decides which version of a dataset is the latest.
select pg_advisory_xact_lock(hashtextextended(
    concat_ws('/', 'ampd_ray:tags', %(namespace)s::text, %(name)s::text), 0))

-- name: tags
-- All tags of a dataset.
select version, hash, created_at, updated_at
from tags
where namespace = %(namespace)s and name = %(name)s
order by version

-- name: linked
-- The hash itself, if it is one of the dataset's manifests.
select hash from dataset_manifests where namespace = %(namespace)s and name = %(name)s and hash = %(hash)s

-- name: datasets
-- Every dataset with its tags, and how many manifests it has had.
select d.namespace, d.name, count(distinct d.hash) as manifests,
       coalesce(
           (select jsonb_object_agg(t.version, t.hash) from tags t where t.namespace = d.namespace and t.name = d.name),
           '{}') as tags
from dataset_manifests d
group by d.namespace, d.name
order by d.namespace, d.name
