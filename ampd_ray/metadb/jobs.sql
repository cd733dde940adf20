-- name: select_jobs
-- Jobs by any of id, node and status, in id order, each with its descriptor (the newest SCHEDULED event's detail), when
-- that was, and the number of blocks that are set aside.
select s.job_id, s.node_id, s.status as written, s.detail, j.created_at, s.updated_at, d.detail as descriptor,
       d.created_at as scheduled_at,
       (select count(*) from ampd_ray.quarantine q
        where q.location_group = concat(d.detail ->> 'dataset_namespace', '/', d.detail ->> 'dataset_name', '@',
                                        d.detail ->> 'manifest_hash')) as holes
from jobs_status s
join jobs j on j.id = s.job_id
left join lateral (
    select e.detail, e.created_at from job_events e
    where e.job_id = s.job_id and upper(e.event_type) = 'SCHEDULED' order by e.id desc limit 1
) d on true
where (%(job_id)s::bigint is null or s.job_id = %(job_id)s::bigint)
  and (%(node_id)s::text is null or s.node_id = %(node_id)s::text)
  and (%(statuses)s::text[] is null or upper(s.status) = any (%(statuses)s::text[]))
order by s.job_id;

-- name: descriptor
-- The descriptor of a job as text: the detail of its newest SCHEDULED event.
select detail::text as text from job_events
where job_id = %(job_id)s and upper(event_type) = 'SCHEDULED' order by id desc limit 1;

-- name: scheduled_count
-- How many SCHEDULED events a job has, which is Amp's attempt index.
select count(*) as count from job_events where job_id = %(job_id)s and upper(event_type) = 'SCHEDULED';

-- name: events
-- The history of a job, oldest first.
select id, created_at, node_id, event_type, detail from job_events where job_id = %(job_id)s order by id;

-- name: transition
-- Move one job of ours to another status, with its event; no row when it is not where we think.
with moved as (
    update jobs_status
    set status = %(to)s::text, detail = %(status_detail)s::jsonb, updated_at = now() at time zone 'utc'
    where job_id = %(job_id)s and node_id = %(node_id)s and upper(status) = any (%(expected)s::text[])
    returning job_id, node_id
)
insert into job_events (created_at, job_id, node_id, event_type, detail)
select now() at time zone 'utc', job_id, node_id, %(to)s::text, %(event_detail)s::jsonb from moved
returning id;

-- name: settled
-- Whether a job is in a status by our own hand: the row says so, and so does its newest event.
select exists (
    select from jobs_status s
    where s.job_id = %(job_id)s and s.node_id = %(node_id)s and upper(s.status) = %(status)s::text
      and (%(status)s::text, s.node_id) = (
          select upper(e.event_type), e.node_id from job_events e where e.job_id = s.job_id order by e.id desc limit 1
      )
) as settled;
