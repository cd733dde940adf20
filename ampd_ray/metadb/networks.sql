-- name: recorded
-- The chain of a network.
select chain_id from ampd_ray.network where network = %(network)s;

-- name: record
-- Say which chain a network is, unless that is known.
insert into ampd_ray.network (network, chain_id) values (%(network)s, %(chain_id)s) on conflict (network) do nothing;
