-- name: connect
-- Come into this database and see what it holds; what a role had from here before, it has no more.
revoke all on all tables in schema ampd_ray from {role};
revoke all on public.workers, public.jobs, public.jobs_status, public.job_events, public.manifest_files,
    public.dataset_manifests, public.tags, public.physical_table_revisions, public.physical_tables,
    public.file_metadata, public.footer_cache, public.gc_manifest from {role};
grant connect on database {database} to {role};
grant usage on schema public, ampd_ray to {role};

-- name: connect_to_amp
-- The same for Amp's own record of its migrations: which there are, and whether they succeeded.
revoke all on public._sqlx_migrations from {role};
grant select (version, success) on public._sqlx_migrations to {role};

-- name: reader
-- What shows jobs, workers, coverage and tables, and checks files: everything is read, nothing changed.
grant select on public.workers to {role};
grant select on public.jobs to {role};
grant select on public.jobs_status to {role};
grant select on public.job_events to {role};
grant select on public.manifest_files to {role};
grant select on public.dataset_manifests to {role};
grant select on public.tags to {role};
grant select on public.physical_table_revisions to {role};
grant select on public.physical_tables to {role};
grant select on public.file_metadata to {role};
grant select on public.footer_cache to {role};
grant select on public.gc_manifest to {role};
grant select on ampd_ray.schema_version to {role};
grant select on ampd_ray.node_lease to {role};
grant select on ampd_ray.location_lease to {role};
grant select on ampd_ray.file_intent to {role};
grant select on ampd_ray.segment to {role};
grant select on ampd_ray.tombstone to {role};
grant select on ampd_ray.job_state to {role};
grant select on ampd_ray.job_progress to {role};
grant select on ampd_ray.job_rate to {role};
grant select on ampd_ray.network to {role};
grant select on ampd_ray.quarantine to {role};

-- name: worker
-- What workers, clients and the command line do beyond that. History is only added to, a file's row never changed, a
-- manifest never replaced.
grant insert, update (info, heartbeat_at, registered_at) on public.workers to {role};
grant insert, delete on public.jobs to {role};
grant insert, update (node_id, status, detail, updated_at) on public.jobs_status to {role};
grant insert on public.job_events to {role};
grant insert on public.manifest_files to {role};
grant insert on public.dataset_manifests to {role};
grant insert, update (hash, updated_at) on public.tags to {role};
grant insert, update (path, writer, updated_at) on public.physical_table_revisions to {role};
grant insert, update (active_revision_id, updated_at) on public.physical_tables to {role};
grant insert, delete on public.file_metadata to {role};
grant insert, update (footer) on public.footer_cache to {role};
grant insert, update (expiration), delete on public.gc_manifest to {role};
grant insert, update on ampd_ray.node_lease to {role};
grant insert, update, delete on ampd_ray.location_lease to {role};
grant insert, update, delete on ampd_ray.file_intent to {role};
grant insert, update, delete on ampd_ray.segment to {role};
grant insert, delete on ampd_ray.tombstone to {role};
grant insert, update, delete on ampd_ray.job_state to {role};
grant insert, update, delete on ampd_ray.job_progress to {role};
grant insert, delete on ampd_ray.job_rate to {role};
grant insert on ampd_ray.network to {role};
grant insert, update, delete on ampd_ray.quarantine to {role};

-- name: fitness
-- Whether a role is there and fit to be limited: neither a superuser, nor the owner of tables, nor able to become it.
select r.rolsuper as superuser,
       exists (
           select from pg_class c
           where c.oid in ('public.workers'::regclass, 'ampd_ray.schema_version'::regclass)
             and pg_has_role(r.oid, c.relowner, 'MEMBER')
       ) as owner
from pg_roles r
where r.rolname = %(role)s;

-- name: excess
-- What a role may do in this database that no grant of ours gave it.
select has_schema_privilege(%(role)s, 'public', 'CREATE') as tables,
       has_database_privilege(%(role)s, current_database(), 'CREATE') as schemas,
       has_database_privilege(%(role)s, current_database(), 'TEMPORARY') as temporary;

-- name: lacking
-- Those of some rights that this session's role does not have.
select wanted.privilege, wanted.relation, wanted.col
from unnest(%(privileges)s::text[], %(relations)s::text[], %(cols)s::text[]) as wanted (privilege, relation, col)
where case when wanted.col = '' then not has_table_privilege(wanted.relation, wanted.privilege)
           else not has_column_privilege(wanted.relation, wanted.col, wanted.privilege) end;
