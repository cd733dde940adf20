-- name: lock_by_key
-- Lock the status of the job that does this work, if there is one.
select s.job_id, s.node_id, s.status
from jobs j join jobs_status s on s.job_id = j.id
where j.idempotency_key = %(key)s
for update of s;

-- name: lock_by_id
-- Lock the status of one job.
select job_id, node_id, status from jobs_status where job_id = %(job_id)s for update;

-- name: insert_job
-- A new job; no row when another transaction was first with the same work.
insert into jobs (node_id, idempotency_key) values (%(node_id)s, %(key)s)
on conflict (idempotency_key) do nothing
returning id as job_id;

-- name: insert_status
-- Where a new job starts.
insert into jobs_status (job_id, node_id, status, updated_at, detail)
values (%(job_id)s, %(node_id)s, 'SCHEDULED', now() at time zone 'utc', %(descriptor)s::jsonb);

-- name: update_scheduled
-- Start a job, whose row this transaction has locked, again on a node.
update jobs_status
set status = 'SCHEDULED', node_id = %(node_id)s, detail = %(descriptor)s::jsonb, updated_at = now() at time zone 'utc'
where job_id = %(job_id)s;

-- name: insert_event
-- One line in the history of a job.
insert into job_events (created_at, job_id, node_id, event_type, detail)
values (now() at time zone 'utc', %(job_id)s, %(node_id)s, %(event_type)s, %(detail)s::jsonb);

-- name: delete_job
-- Forget a job; its status and events go with it, and revisions forget their writer.
delete from jobs where id = %(job_id)s;

-- name: delete_progress
-- Forget how far a job was.
delete from ampd_ray.job_progress where job_id = %(job_id)s;

-- name: delete_rates
-- Forget how fast a job was.
delete from ampd_ray.job_rate where job_id = %(job_id)s;

-- name: delete_state
-- Forget the failures of a job.
delete from ampd_ray.job_state where job_id = %(job_id)s;

-- name: forget_retry
-- A job that starts again has no retry due.
update ampd_ray.job_state set next_retry_at = null where job_id = %(job_id)s;

-- name: newest_descriptor
-- The descriptor of a job as text: the detail of its newest SCHEDULED event.
select detail::text as text from job_events
where job_id = %(job_id)s and upper(event_type) = 'SCHEDULED' order by id desc limit 1;

-- name: set_status
-- Set the status of a row that this transaction has locked.
update jobs_status set status = %(status)s, detail = null, updated_at = now() at time zone 'utc'
where job_id = %(job_id)s;
