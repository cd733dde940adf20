-- name: report
-- Replace a job's live progress, unless another node has the job by now.
insert into ampd_ray.job_progress
    (job_id, node_id, phase, blocks_done, blocks_total, rows, bytes, rpc_requests, retries, rows_by_table, rate,
     rows_rate, requests_rate, limiting_factor, eta, updated_at)
select %(job_id)s, %(node_id)s, %(phase)s, %(blocks_done)s, %(blocks_total)s, %(rows)s, %(bytes)s, %(rpc_requests)s,
       %(retries)s, %(rows_by_table)s::jsonb, %(rate)s, %(rows_rate)s, %(requests_rate)s,
       %(limiting_factor)s,
       now() + %(eta_secs)s::double precision * interval '1 second', now()
where not exists (select from jobs_status s where s.job_id = %(job_id)s and s.node_id <> %(node_id)s)
on conflict (job_id) do update
set node_id = excluded.node_id, phase = excluded.phase, blocks_done = excluded.blocks_done,
    blocks_total = excluded.blocks_total, rows = excluded.rows, bytes = excluded.bytes,
    rpc_requests = excluded.rpc_requests, retries = excluded.retries, rows_by_table = excluded.rows_by_table,
    rate = excluded.rate, rows_rate = excluded.rows_rate, requests_rate = excluded.requests_rate,
    limiting_factor = excluded.limiting_factor, eta = excluded.eta, updated_at = excluded.updated_at

-- name: progress
-- A job's live progress and how old it is.
select node_id, phase, blocks_done, blocks_total, rows, bytes, rpc_requests, retries, rows_by_table, rate,
       rows_rate, requests_rate, limiting_factor, extract(epoch from eta - updated_at)::double precision as eta_secs,
       updated_at, extract(epoch from now() - updated_at)::double precision as age_secs
from ampd_ray.job_progress
where job_id = %(job_id)s

-- name: record_rate
-- What a job did in the seconds up to now, unless another node has the job by now.
insert into ampd_ray.job_rate (job_id, node_id, secs, blocks, rows, requests, limiting_factor)
select %(job_id)s, %(node_id)s, %(secs)s, %(blocks)s, %(rows)s, %(requests)s, %(limiting_factor)s
where not exists (select from jobs_status s where s.job_id = %(job_id)s and s.node_id <> %(node_id)s)
on conflict do nothing

-- name: recorded
-- How long ago the first rate of a job was recorded, in seconds, null if none was, and how many were.
select extract(epoch from now() - min(at))::double precision as secs, count(*) as samples
from ampd_ray.job_rate where job_id = %(job_id)s

-- name: history
-- What a job did, oldest first.
select at, secs, blocks, rows, requests, limiting_factor
from ampd_ray.job_rate where job_id = %(job_id)s order by at

-- name: forget_progress
-- The progress of jobs that were deleted.
delete from ampd_ray.job_progress p where not exists (select from jobs j where j.id = p.job_id)

-- name: forget_rates
-- The rates of jobs that were deleted.
delete from ampd_ray.job_rate r where not exists (select from jobs j where j.id = r.job_id)
