-- name: time_zone
-- The session's time zone, which must be UTC.
select current_setting('timezone') as zone;

-- name: speak_utc
-- Set what would else be a start-up option; a pooler gives these two on to whatever server it uses.
select set_config('timezone', %(zone)s, false) as zone, set_config('datestyle', %(style)s, false) as style;
