-- name: try_lock
-- Claim a Node ID for the life of this session, under the same key as Amp's workers; false if taken.
select pg_try_advisory_lock(hashtextextended(%(node_id)s::text, 0)) as locked;

-- name: holder
-- The session that holds a Node ID.
select l.pid, coalesce(a.application_name, '') as application_name,
       coalesce(a.usename = current_user, false) as same_role, l.pid = pg_backend_pid() as ours
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
cross join (select hashtextextended(%(node_id)s::text, 0) as key) k
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and l.classid::bigint = ((k.key >> 32) & 4294967295) and l.objid::bigint = (k.key & 4294967295);

-- name: end_dead_session
-- End a session that is provably a dead one of the node: our role, the node's name, and its node lease has run out.
select pg_terminate_backend(a.pid) as ended
from pg_stat_activity a
join ampd_ray.node_lease n on n.node_id = %(node_id)s and n.expires_at <= now()
where a.pid = %(pid)s and a.pid <> pg_backend_pid() and a.usename = current_user
  and starts_with(a.application_name, 'ampd-ray/' || n.node_id || '/');

-- name: end_lost_session
-- End a session that its own process has lost: our role, our very name, and not the session that asks.
select pg_terminate_backend(a.pid) as ended
from pg_stat_activity a
where a.pid = %(pid)s and a.pid <> pg_backend_pid() and a.usename = current_user
  and a.application_name = current_setting('application_name');

-- name: is_unlocked
-- Whether no session holds a Node ID; if so, nobody else can claim it before this transaction ends.
select pg_try_advisory_xact_lock(hashtextextended(%(node_id)s::text, 0)) as unlocked;

-- name: take_free_node_lease
-- Become the incarnation of a node that no other runs: its lease has run out, or was given up.
insert into ampd_ray.node_lease as l (node_id, epoch, incarnation, expires_at, draining)
values (%(node_id)s, 1, %(incarnation)s, now() + %(ttl)s::interval, false)
on conflict (node_id) do update
set epoch = l.epoch + 1, incarnation = excluded.incarnation, expires_at = excluded.expires_at, draining = false
where l.expires_at <= now() or l.incarnation = excluded.incarnation
returning epoch;

-- name: take_node_lease
-- Become the incarnation of a node, whatever its lease says: the advisory lock is the proof.
insert into ampd_ray.node_lease as l (node_id, epoch, incarnation, expires_at, draining)
values (%(node_id)s, 1, %(incarnation)s, now() + %(ttl)s::interval, false)
on conflict (node_id) do update
set epoch = l.epoch + 1, incarnation = excluded.incarnation, expires_at = excluded.expires_at, draining = false
returning epoch;

-- name: renew_node_lease
-- Hold on to a node for another life; no row when another incarnation has taken it.
update ampd_ray.node_lease set expires_at = now() + %(ttl)s::interval
where node_id = %(node_id)s and incarnation = %(incarnation)s;

-- name: is_incarnation
-- Whether nobody else has become the incarnation of a node.
select exists (
    select from ampd_ray.node_lease where node_id = %(node_id)s and incarnation = %(incarnation)s
) as ours;

-- name: release_node_lease
-- Give a node up at once, so that a peer need not wait for its lease to run out.
update ampd_ray.node_lease set expires_at = now(), draining = true
where node_id = %(node_id)s and incarnation = %(incarnation)s;

-- name: register
-- Enter a node in the registry, or enter it again under its old creation time.
insert into workers (node_id, heartbeat_at, info, created_at, registered_at)
values (%(node_id)s, now() at time zone 'utc', %(info)s::jsonb, now() at time zone 'utc', now() at time zone 'utc')
on conflict (node_id) do update
set info = excluded.info, registered_at = excluded.registered_at, heartbeat_at = excluded.heartbeat_at;

-- name: beat
-- Say that a node is alive; no row when it is not registered.
update workers set heartbeat_at = now() at time zone 'utc' where node_id = %(node_id)s;

-- name: drain
-- Ask for no more work: the node's lease says so until it ends.
update ampd_ray.node_lease set draining = true where node_id = %(node_id)s and incarnation = %(incarnation)s;

-- name: look_dead
-- Set a draining node's heartbeat 10 s into the past, so that no controller chooses it.
update workers set heartbeat_at = (now() at time zone 'utc') - interval '10 s'
where node_id = %(node_id)s
  and exists (select from ampd_ray.node_lease l where l.node_id = workers.node_id and l.incarnation = %(incarnation)s);

-- name: list_workers
-- Every node ever registered, whether it lives, drains or has given itself up, and how many jobs it has in hand.
select w.node_id, w.heartbeat_at, w.info, w.created_at, w.registered_at,
       w.heartbeat_at > (now() at time zone 'utc') - interval '5 s' as alive,
       coalesce(l.draining and w.info ->> 'implementation' = 'ampd-ray', false) as draining,
       coalesce(l.draining and l.expires_at <= now() and w.info ->> 'implementation' = 'ampd-ray', false) as ended,
       (select count(*) from jobs_status s where s.node_id = w.node_id and upper(s.status) = any (%(active)s::text[]))
           as active_jobs
from workers w
left join ampd_ray.node_lease l on l.node_id = w.node_id
order by w.node_id;

-- name: is_alive
-- Whether a node is registered, and whether it has beaten within 5 s.
select count(*) > 0 as registered,
       coalesce(bool_or(heartbeat_at > (now() at time zone 'utc') - interval '5 s'), false) as alive
from workers where node_id = %(node_id)s;
