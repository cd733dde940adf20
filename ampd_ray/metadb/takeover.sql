-- name: candidates
-- Open jobs of other nodes whose node lease has run out, with all that decides whether they are taken over; or one job.
select s.job_id, s.node_id, upper(s.status) as written,
       w.info ->> 'implementation' as implementation, w.info ->> 'failover_group' as failover_group,
       w.heartbeat_at <= (now() at time zone 'utc') - interval '5 s' as silent,
       n.expires_at <= now() as expired, n.draining,
       not exists (
           select from ampd_ray.location_lease l
           where l.job_id = s.job_id and l.expires_at > now() and l.incarnation <> %(incarnation)s
       ) as lapsed,
       (
           select count(*) from job_events e
           where e.job_id = s.job_id and upper(e.event_type) = 'RUNNING' and e.detail ? 'reassigned_from'
             and e.created_at > (now() at time zone 'utc') - interval '10 min'
             and e.created_at > coalesce(p.last_progress_at, '-infinity')
             and e.id > (
                 select coalesce(max(asked.id), 0) from job_events asked
                 where asked.job_id = s.job_id and upper(asked.event_type) = 'SCHEDULED'
             )
       ) as fruitless
from jobs_status s
join workers w on w.node_id = s.node_id
join ampd_ray.node_lease n on n.node_id = s.node_id
left join ampd_ray.job_state p on p.job_id = s.job_id
where (%(job_id)s::bigint is null or s.job_id = %(job_id)s::bigint)
  and upper(s.status) = any (%(active)s::text[]) and s.node_id <> %(node_id)s and n.expires_at <= now()
order by s.job_id;

-- name: lock_leases
-- Lock the leases of a job in ascending order, and say which of them somebody still holds.
select location_id, expires_at > now() as held
from ampd_ray.location_lease where job_id = %(job_id)s order by location_id
for update;

-- name: take_leases
-- Become the holder of a job's leases, which this transaction has locked: from here on its old node commits no more.
update ampd_ray.location_lease
set epoch = epoch + 1, node_id = %(node_id)s, incarnation = %(incarnation)s, expires_at = now() + %(ttl)s::interval
where job_id = %(job_id)s
returning epoch;

-- name: is_fit
-- Whether this process is the live one of its node, and not about to end: nobody else may take anything over.
select exists (
    select from ampd_ray.node_lease
    where node_id = %(node_id)s and incarnation = %(incarnation)s and expires_at > now() and not draining
) as fit;

-- name: lock_status
-- Lock a job's status; no row while somebody else changes it.
select job_id from jobs_status where job_id = %(job_id)s for update skip locked;

-- name: move
-- Set node and status of a row that this transaction has locked.
update jobs_status
set node_id = %(node_id)s, status = %(status)s, detail = %(status_detail)s::jsonb,
    updated_at = now() at time zone 'utc'
where job_id = %(job_id)s;

-- name: record
-- The event of a move.
insert into job_events (created_at, job_id, node_id, event_type, detail)
values (now() at time zone 'utc', %(job_id)s, %(node_id)s, %(status)s, %(detail)s::jsonb);
