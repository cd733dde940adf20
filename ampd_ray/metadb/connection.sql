-- name: limit_transaction
-- Bound how long this transaction may wait, run and idle, and make its commit durable.
select set_config('statement_timeout', %(statement)s, true) as statement,
       set_config('lock_timeout', %(lock)s, true) as lock,
       set_config('idle_in_transaction_session_timeout', %(idle)s, true) as idle,
       set_config('synchronous_commit', 'on', true) as synchronous;
