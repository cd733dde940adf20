-- name: lock_lease
-- Let nobody commit to a revision while its index is mended.
select location_id from ampd_ray.location_lease where location_id = %(location_id)s for update

-- name: put_footer
-- Keep the footer of a file that is registered.
insert into footer_cache (file_id, footer)
select id, %(footer)s from file_metadata where id = %(file_id)s
on conflict (file_id) do update set footer = excluded.footer

-- name: revoke_tombstone
-- The object of a registered file must not be deleted.
delete from ampd_ray.tombstone t
where t.url = %(url)s and exists (
    select from file_metadata f
    where f.location_id = t.location_id and f.file_name = substring(t.url from '[^/]*$')
)
