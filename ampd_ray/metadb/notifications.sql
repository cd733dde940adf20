-- name: probe
-- Ask for an answer, to learn whether the session is still there.
select 1 as alive;

-- name: notify
-- Tell whoever listens on a channel, once this transaction commits.
select pg_notify(%(channel)s::text, %(payload)s::text);

-- name: backend
-- The server process behind this session; behind a transaction pooler it changes.
select pg_backend_pid() as pid;
