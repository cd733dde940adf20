-- name: report
-- Replace a job's live progress, unless another node has the job by now.
insert into ampd_ray.job_progress
    (job_id, node_id, phase, blocks_done, blocks_total, rows, bytes, rpc_requests, retries, rows_by_table, rate,
     limiting_factor, eta, updated_at)
select %(job_id)s, %(node_id)s, %(phase)s, %(blocks_done)s, %(blocks_total)s, %(rows)s, %(bytes)s, %(rpc_requests)s,
       %(retries)s, %(rows_by_table)s::jsonb, %(rate)s, %(limiting_factor)s,
       now() + %(eta_secs)s::double precision * interval '1 second', now()
where not exists (select from jobs_status s where s.job_id = %(job_id)s and s.node_id <> %(node_id)s)
on conflict (job_id) do update
set node_id = excluded.node_id, phase = excluded.phase, blocks_done = excluded.blocks_done,
    blocks_total = excluded.blocks_total, rows = excluded.rows, bytes = excluded.bytes,
    rpc_requests = excluded.rpc_requests, retries = excluded.retries, rows_by_table = excluded.rows_by_table,
    rate = excluded.rate, limiting_factor = excluded.limiting_factor, eta = excluded.eta,
    updated_at = excluded.updated_at

-- name: progress
-- A job's live progress and how old it is.
select node_id, phase, blocks_done, blocks_total, rows, bytes, rpc_requests, retries, rows_by_table, rate,
       limiting_factor, extract(epoch from eta - updated_at)::double precision as eta_secs,
       updated_at, extract(epoch from now() - updated_at)::double precision as age_secs
from ampd_ray.job_progress
where job_id = %(job_id)s
