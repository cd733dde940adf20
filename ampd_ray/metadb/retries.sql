-- name: record_failure
-- One more failed run in a row.
insert into ampd_ray.job_state as t (job_id, consecutive_failures, last_error_code, last_error_class)
values (%(job_id)s, 1, %(code)s, %(handling)s)
on conflict (job_id) do update
set consecutive_failures = t.consecutive_failures + 1,
    last_error_code = excluded.last_error_code, last_error_class = excluded.last_error_class
returning consecutive_failures as failures;

-- name: plan_retry
-- When the job may be tried again.
update ampd_ray.job_state set next_retry_at = now() + %(delay)s::interval where job_id = %(job_id)s;

-- name: record_progress
-- A segment was committed: no failure in a row any more.
insert into ampd_ray.job_state (job_id, consecutive_failures, last_progress_at)
values (%(job_id)s, 0, now())
on conflict (job_id) do update set consecutive_failures = 0, next_retry_at = null, last_progress_at = now();

-- name: failures
-- How many runs of a job have failed in a row.
select consecutive_failures as failures from ampd_ray.job_state where job_id = %(job_id)s;

-- name: retry_due
-- Jobs in ERROR whose time has come, or that have no time set because Amp's worker wrote the ERROR.
select s.job_id, s.node_id, coalesce(t.consecutive_failures, 0) as failures,
       t.next_retry_at is not null as planned, now() - s.updated_at as waited
from jobs_status s
left join ampd_ray.job_state t on t.job_id = s.job_id
where upper(s.status) = 'ERROR' and (t.next_retry_at is null or t.next_retry_at <= now())
order by s.job_id;

-- name: at_work
-- Whether a job (of one node) is at hand, or in ERROR with its next try a short while ahead; past its time nobody tries
-- it again.
select exists (
    select from jobs_status s
    left join ampd_ray.job_state t on t.job_id = s.job_id
    where (%(node_id)s::text is null or s.node_id = %(node_id)s::text)
      and (upper(s.status) = any (%(active)s::text[])
           or upper(s.status) = 'ERROR'
              and t.next_retry_at between now() - %(late)s::interval and now() + %(soon)s::interval)
) as at_work;
