-- name: lock_migrations
-- Wait for our turn to migrate, under the very lock that Amp's migrator takes.
select pg_advisory_xact_lock(%(key)s::bigint);

-- name: limit_migration
-- A migration may wait longer for locks than a worker's transaction.
select set_config('lock_timeout', '30s', true) as lock,
       set_config('statement_timeout', '60s', true) as statement;

-- name: database_name
-- The name of this database.
select current_database() as name;

-- name: server_version
-- The server's version as one number, 150004 for 15.4.
select current_setting('server_version_num')::int as number, current_setting('server_version') as version;

-- name: tables
-- The names of the ordinary and partitioned tables of the schemas public and ampd_ray.
select n.nspname::text as schema, c.relname::text as name
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'ampd_ray') and c.relkind in ('r', 'p')
order by 1, 2;

-- name: schemas
-- Whether the schema ampd_ray exists.
select exists (select from pg_namespace where nspname = 'ampd_ray') as found;

-- name: columns
-- Every column of the tables in public: type, whether it may be null, and whether an insert may leave it out.
select c.relname::text as table_name,
       a.attname::text as name,
       format_type(a.atttypid, a.atttypmod) as type,
       not a.attnotnull as nullable,
       (a.atthasdef or a.attidentity <> '') as optional
from pg_attribute a
join pg_class c on c.oid = a.attrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped;

-- name: unique_keys
-- The columns of every complete unique index in public, which are what ON CONFLICT can name.
select c.relname::text as table_name,
       array(
           select a.attname::text from pg_attribute a
           where a.attrelid = c.oid and a.attnum = any (i.indkey[:i.indnkeyatts - 1])
           order by 1
       ) as columns
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null;

-- name: our_version
-- The newest of our migrations that this database has.
select coalesce(max(version), 0) as version from ampd_ray.schema_version;

-- name: record_version
-- Remember that one of our migrations was applied.
insert into ampd_ray.schema_version (version) values (%(version)s);

-- name: amp_migrations
-- The newest of Amp's migrations that succeeded, and how many failed.
select max(version) filter (where success) as newest, count(*) filter (where not success) as failed
from public._sqlx_migrations;

-- name: btree_gist
-- Whether btree_gist is installed, and whether the server has it to install.
select exists (select from pg_extension where extname = 'btree_gist') as installed,
       exists (select from pg_available_extensions where name = 'btree_gist') as available;

-- name: exclusion
-- Whether the database itself refuses overlapping segments.
select exists (select from pg_constraint where conname = 'segment_no_overlap') as found;
