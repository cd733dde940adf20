-- name: create_schema
-- The schema of our own objects; an administrator may have made it for us.
create schema ampd_ray;

-- name: version_1
-- What Amp does not have: leases, intents, the range index of segments, tombstones, retry counts and progress.
create table ampd_ray.schema_version (
    version    int primary key,
    applied_at timestamptz not null default now()
);

create table ampd_ray.node_lease (
    node_id     text primary key,
    epoch       bigint not null,
    incarnation uuid not null,
    expires_at  timestamptz not null,
    draining    boolean not null default false
);

create table ampd_ray.location_lease (
    location_id bigint primary key,
    epoch       bigint not null,
    job_id      bigint not null,
    node_id     text not null,
    incarnation uuid not null,
    expires_at  timestamptz not null
);

create table ampd_ray.file_intent (
    location_id bigint not null,
    file_name   text not null,
    epoch       bigint not null,
    upload_id   text,
    created_at  timestamptz not null default now(),
    swept_at    timestamptz,
    primary key (location_id, file_name)
);

create table ampd_ray.segment (
    file_id      bigint primary key,
    location_id  bigint not null,
    network      text not null,
    blocks       int8range not null,
    start_parent bytea not null,
    end_hash     bytea not null,
    sha256       bytea,
    epoch        bigint not null default 0,
    verified     text,
    canonical    boolean not null,
    row_count    bigint
);
create index segment_blocks on ampd_ray.segment (location_id, network, lower(blocks));
create index segment_aside on ampd_ray.segment (location_id) where (not canonical);

create table ampd_ray.tombstone (
    url         text primary key,
    location_id bigint not null,
    created_at  timestamptz not null default now()
);

create table ampd_ray.job_state (
    job_id               bigint primary key,
    consecutive_failures int not null default 0,
    last_error_code      text,
    last_error_class     text,
    next_retry_at        timestamptz,
    last_progress_at     timestamptz,
    resolved_end         bigint,
    resolved_for         bigint -- the id of the SCHEDULED event that asked for it
);

create table ampd_ray.job_progress (
    job_id          bigint primary key,
    node_id         text not null,
    phase           text not null,
    blocks_done     bigint not null default 0,
    blocks_total    bigint,
    rows            bigint not null default 0,
    bytes           bigint not null default 0,
    rpc_requests    bigint not null default 0,
    retries         bigint not null default 0,
    rows_by_table   jsonb not null default '{}',
    rate            double precision,
    limiting_factor text,
    eta             timestamptz,
    updated_at      timestamptz not null default now()
);

create table ampd_ray.quarantine (
    location_group text not null,
    block          bigint not null,
    reason         text not null,
    provider       text not null,
    attempts       int not null default 1,
    first_seen     timestamptz not null default now(),
    last_seen      timestamptz not null default now(),
    evidence       jsonb,
    primary key (location_group, block)
);

-- name: version_2
-- Which chain a network is whose name means none: that of the first provider ever used.
create table ampd_ray.network (
    network    text primary key,
    chain_id   numeric(78, 0) not null,
    created_at timestamptz not null default now()
);

-- name: version_3
-- How fast a job is, in rows and requests too, and how fast it was: what it did in the seconds up to each time.
alter table ampd_ray.job_progress
    add column rows_rate     double precision,
    add column requests_rate double precision;
create table ampd_ray.job_rate (
    job_id          bigint not null,
    at              timestamptz not null default now(),
    node_id         text not null,
    secs            double precision not null,
    blocks          bigint not null,
    rows            bigint not null,
    requests        bigint not null,
    limiting_factor text,
    primary key (job_id, at)
);

-- name: create_btree_gist
-- Equality in GiST indexes; trusted, so that whoever may create in this database may install it.
create extension btree_gist with schema ampd_ray;

-- name: exclude_overlaps
-- No two canonical segments of one revision and network hold the same block.
alter table ampd_ray.segment
    add constraint segment_no_overlap
    exclude using gist (location_id with =, network with =, blocks with &&) where (canonical);
