-- name: acquire
-- Take revisions for a job of ours, in ascending order: epoch 1, or one more where the lease has run out or is this
-- very job's; no row for what somebody else holds, none at all when the job is not ours.
insert into ampd_ray.location_lease as l (location_id, epoch, job_id, node_id, incarnation, expires_at)
select id, 1, %(job_id)s, %(node_id)s, %(incarnation)s, now() + %(ttl)s::interval
from (select unnest(%(location_ids)s::bigint[]) as id order by 1) wanted
where exists (select from jobs_status s where s.job_id = %(job_id)s and s.node_id = %(node_id)s)
on conflict (location_id) do update
set epoch = l.epoch + 1, job_id = excluded.job_id, node_id = excluded.node_id,
    incarnation = excluded.incarnation, expires_at = excluded.expires_at
where l.expires_at <= now() or (l.incarnation = excluded.incarnation and l.job_id = excluded.job_id)
returning location_id, epoch;

-- name: refusal
-- Why revisions could not be taken: whether the job is ours, and who holds them for how long yet.
select exists (select from jobs_status s where s.job_id = %(job_id)s and s.node_id = %(node_id)s) as ours,
       array_agg(l.location_id order by l.location_id) as locations, min(l.node_id) as node_id,
       extract(epoch from max(l.expires_at) - clock_timestamp())::double precision as secs
from ampd_ray.location_lease l
where l.location_id = any (%(location_ids)s::bigint[])
  and not (l.incarnation = %(incarnation)s and l.job_id = %(job_id)s) and l.expires_at > now();

-- name: limit_wait
-- Wait for a lease row no longer than this: a commit of our own may hold it.
select set_config('lock_timeout', '500ms', true) as lock;

-- name: lock_mine
-- Lock those of our revisions that nobody else has taken, in ascending order.
select location_id from ampd_ray.location_lease
where location_id = any (%(location_ids)s::bigint[]) and incarnation = %(incarnation)s
order by location_id
for update;

-- name: lock_free
-- The same, without those that a transaction has locked.
select location_id from ampd_ray.location_lease
where location_id = any (%(location_ids)s::bigint[]) and incarnation = %(incarnation)s
order by location_id
for update skip locked;

-- name: mine
-- Those of our revisions that nobody else has taken, locked or not.
select location_id from ampd_ray.location_lease
where location_id = any (%(location_ids)s::bigint[]) and incarnation = %(incarnation)s;

-- name: renew
-- Hold on to revisions, which this transaction has locked, for another life.
update ampd_ray.location_lease set expires_at = now() + %(ttl)s::interval
where location_id = any (%(location_ids)s::bigint[]);

-- name: lock_held
-- Lock what this process holds, for one job or at all, in ascending order.
select location_id from ampd_ray.location_lease
where incarnation = %(incarnation)s and (%(job_id)s::bigint is null or job_id = %(job_id)s::bigint)
  and expires_at > now()
order by location_id
for update;

-- name: release
-- Let revisions, which this transaction has locked, go at once; the rows stay, since an epoch never falls.
update ampd_ray.location_lease set expires_at = now() where location_id = any (%(location_ids)s::bigint[]);

-- name: lock_for_commit
-- Lock the lease rows in ascending order, if they are still of our epochs.
select l.location_id
from ampd_ray.location_lease l
join unnest(%(location_ids)s::bigint[], %(epochs)s::bigint[]) as held (location_id, epoch)
  on held.location_id = l.location_id and held.epoch = l.epoch
where l.incarnation = %(incarnation)s
order by l.location_id
for update of l;
