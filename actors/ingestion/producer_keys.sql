-- The keys of producers. A key's row is locked by each of its requests: requests of one key are counted one by one.

-- name: lock_creation()!
-- Keys are created one by one: simultaneous transactions would not count each other's.
select pg_advisory_xact_lock(hashtext('producer_keys'));

-- name: add_key(key_id, name, secret_hash, types, sources, hourly_events, hourly_bytes)^
-- No row if a key that is not revoked has the name.
insert into producer_keys (key_id, name, secret_hash, types, sources, hourly_events, hourly_bytes)
values (:key_id, :name, :secret_hash, :types::text[], :sources::text[], :hourly_events, :hourly_bytes)
on conflict (lower(name)) where revoked_at is null do nothing
returning key_id, name, types, sources, hourly_events, hourly_bytes, created_at, used_at, revoked_at;

-- name: count_keys()$
select count(*) from producer_keys where revoked_at is null;

-- name: list_keys(limit, before, before_id)
-- Revoked keys too, newest first.
select key_id, name, types, sources, hourly_events, hourly_bytes, created_at, used_at, revoked_at
from producer_keys
where :before::timestamptz is null or (created_at, key_id) < (:before::timestamptz, :before_id::uuid)
order by created_at desc, key_id desc
limit :limit;

-- name: revoke_key(key_id)^
-- Revoking a key again changes nothing. Waits for the key's requests in progress.
update producer_keys set revoked_at = coalesce(revoked_at, now())
where key_id = :key_id
returning name, revoked_at = now() as is_change;

-- name: secret_of(key_id)^
select key_id, name, secret_hash from producer_keys where key_id = :key_id and revoked_at is null;

-- name: lock_key(key_id)^
select key_id, name, types, sources, hourly_events, hourly_bytes, created_at, used_at, revoked_at, now() as now
from producer_keys where key_id = :key_id and revoked_at is null
for update;

-- name: count_use(key_id, events, bytes, window_s)^
-- Counts new events; returns the counts of this period and of the one before it.
update producer_keys as k
set used_events = case when k.period = p.period then k.used_events else 0 end + :events::bigint,
    used_bytes = case when k.period = p.period then k.used_bytes else 0 end + :bytes::bigint,
    previous_events = case when k.period = p.period then k.previous_events
                           when k.period = p.period - make_interval(secs => :window_s) then k.used_events
                           else 0 end,
    previous_bytes = case when k.period = p.period then k.previous_bytes
                          when k.period = p.period - make_interval(secs => :window_s) then k.used_bytes
                          else 0 end,
    period = p.period,
    used_at = now()
from (select date_bin(make_interval(secs => :window_s), now(), 'epoch') as period) as p
where k.key_id = :key_id
returning k.used_events, k.used_bytes, k.previous_events, k.previous_bytes,
          extract(epoch from now() - p.period)::float8 as elapsed_s;
