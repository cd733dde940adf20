-- name: coverage
-- Per revision, and within start..end: the blocks that canonical segments hold, those of them that were not checked
-- against all hashes and roots, those that are set aside and not held, and the rest. Each as first and last blocks.
with held as (
    select location_id,
           range_agg(blocks) as covered,
           range_agg(blocks) filter (where verified is null or verified not in ('roots', 'full')) as unverified
    from ampd_ray.segment
    where location_id = any(%(location_ids)s) and canonical and blocks && int8range(%(start)s, %(end)s, '[]')
    group by location_id
),
aside as (
    select coalesce(range_agg(int8range(block, block, '[]')), '{}') as blocks
    from ampd_ray.quarantine
    where location_group = %(location_group)s and block between %(start)s and %(end)s
),
asked as (
    select int8multirange(int8range(%(start)s, %(end)s, '[]')) as blocks
),
pictured as (
    select asked_for.location_id,
           asked.blocks * coalesce(held.covered, '{}') as covered,
           asked.blocks * coalesce(held.unverified, '{}') as unverified,
           aside.blocks - coalesce(held.covered, '{}') as quarantined,
           asked.blocks - coalesce(held.covered, '{}') - aside.blocks as missing
    from unnest(%(location_ids)s::bigint[]) as asked_for (location_id)
    left join held using (location_id)
    cross join asked
    cross join aside
)
select location_id, kind,
       array(select lower(span) from unnest(spans) as span) as firsts,
       array(select upper(span) - 1 from unnest(spans) as span) as lasts
from pictured
cross join lateral (values
    ('covered', covered), ('unverified', unverified), ('quarantined', quarantined), ('missing', missing)
) as of_kind (kind, spans)

-- name: last_block
-- The highest block that a canonical segment of some revisions holds.
select max(top.last) as last
from unnest(%(location_ids)s::bigint[]) as asked_for (location_id)
cross join lateral (
    select upper(blocks) - 1 as last
    from ampd_ray.segment s
    where s.location_id = asked_for.location_id and s.network = %(network)s and s.canonical
    order by lower(s.blocks) desc
    limit 1
) as top

-- name: newest_job
-- The job of a dataset's version, and its end block where it is known: a number that was asked for, or what `latest`
-- or -100 came to.
select j.id as job_id,
       coalesce(
           case when d.end_block ~ '^[0-9]{1,18}$' then d.end_block::bigint end,
           case when d.end_block is not null then t.resolved_end end
       ) as end_block
from jobs j
left join lateral (
    select e.detail ->> 'end_block' as end_block
    from job_events e
    where e.job_id = j.id and upper(e.event_type) = 'SCHEDULED'
    order by e.id desc
    limit 1
) d on true
left join ampd_ray.job_state t on t.job_id = j.id
where j.idempotency_key = %(key)s
