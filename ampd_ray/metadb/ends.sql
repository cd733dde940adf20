-- name: kept_end
-- The end block of a job as it was resolved, as long as it is the same request: a retry after an error asks again for
-- the same, a run that came to its end does not.
select t.resolved_end as block
from ampd_ray.job_state t
join job_events asked on asked.id = t.resolved_for
where t.job_id = %(job_id)s
  and asked.detail = (
      select e.detail from job_events e
      where e.job_id = t.job_id and upper(e.event_type) = 'SCHEDULED' order by e.id desc limit 1
  )
  and not exists (
      select from job_events e
      where e.job_id = t.job_id and e.id > asked.id and upper(e.event_type) in ('COMPLETED', 'STOPPED', 'FATAL')
  );

-- name: keep_end
-- Remember the end block of a job for its newest SCHEDULED event.
insert into ampd_ray.job_state (job_id, resolved_end, resolved_for)
select job_id, %(block)s, max(id) from job_events
where job_id = %(job_id)s and upper(event_type) = 'SCHEDULED'
group by job_id
on conflict (job_id) do update set resolved_end = excluded.resolved_end, resolved_for = excluded.resolved_for;
