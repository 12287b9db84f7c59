-- name: number(user_id, kind, default, is_fixed)^
-- Lock the user's row, and count the notification unless its user wants none of its kind. A deleted account gets none.
insert into notification_settings as s (user_id, last_seq)
select user_id, case when :default = 'none' then 0 else 1 end from accounts where user_id = :user_id and not is_deleted
on conflict (user_id) do update
set last_seq = s.last_seq
    + case when not :is_fixed and coalesce(s.channels ->> :kind, :default) = 'none' then 0 else 1 end
returning last_seq as seq, digest,
    case when :is_fixed then :default else coalesce(s.channels ->> :kind, :default) end as channel;

-- name: add(notification_id, user_id, seq, kind, data, waits, digest_id)$
insert into notifications (notification_id, user_id, seq, kind, data, waits, digest_id)
values (:notification_id, :user_id, :seq, :kind, :data::text::jsonb, :waits, :digest_id)
on conflict (notification_id) do nothing
returning true;

-- name: trim(user_id, seq, keep)!
-- Those that wait for a digest stay until it has them.
delete from notifications where user_id = :user_id and seq <= :seq - :keep::bigint and not waits;

-- name: count_waiting(user_id, limit)$
select count(*) from (select from notifications where user_id = :user_id and waits limit :limit) x;

-- name: lock_waiting(digests, limit)
-- The users whose digest is due: locked in one order, so that two of these and the recorder do not deadlock.
select user_id from notification_settings
where digest = any(:digests::text[]) and user_id in (select user_id from notifications where waits)
order by user_id limit :limit for update;

-- name: gather(user_ids)
-- One digest for each user: whoever gathers holds the lock on the user's row. A notification that has been read is left
-- out.
with digests as (
    select user_id, gen_random_uuid() as digest_id from unnest(:user_ids::uuid[]) u(user_id)
),
gathered as (
    update notifications n set waits = false, digest_id = case when n.read_at is null then d.digest_id end
    from digests d where n.user_id = d.user_id and n.waits
    returning n.user_id, n.digest_id
)
select distinct user_id, digest_id from gathered where digest_id is not null order by user_id;

-- name: digest(digest_id, user_id)
select notification_id, kind, data::text as data from notifications
where digest_id = :digest_id and user_id = :user_id order by seq;

-- name: list_notifications(user_id, only_unread, before, limit)
select notification_id, seq, kind, data::text as data, created_at, read_at,
       (select languages from accounts where user_id = :user_id) as languages
from notifications
where user_id = :user_id and (:before::bigint is null or seq < :before::bigint)
  and (not :only_unread::boolean or read_at is null)
order by seq desc limit :limit;

-- name: count_unread(user_id)$
select count(*) from notifications where user_id = :user_id and read_at is null;

-- name: mark_read(user_id, notification_id)^
-- The time of the first reading stays.
update notifications set read_at = coalesce(read_at, now())
where user_id = :user_id and notification_id = :notification_id
returning notification_id, seq, kind, data::text as data, created_at, read_at,
          (select languages from accounts where user_id = :user_id) as languages;

-- name: mark_all_read(user_id)!
update notifications set read_at = now() where user_id = :user_id and read_at is null;

-- name: export_notifications(user_id, after, limit)
select x.seq::text as cursor, row_to_json(x)::text as document from (
    select notification_id, seq, kind, data, created_at, read_at
    from notifications where user_id = :user_id and (:after::text is null or seq > :after::text::bigint)
    order by seq limit :limit) x;

-- name: erase_notifications(user_id, limit)$
with gone as (
    delete from notifications where notification_id in (
        select notification_id from notifications where user_id = :user_id limit :limit)
    returning 1
)
select count(*) from gone;

-- name: stream_start(user_id)^
select coalesce((select last_seq from notification_settings where user_id = :user_id), 0) as last_seq,
       (select min(seq) from notifications where user_id = :user_id) as first_seq,
       (select count(*) from notifications where user_id = :user_id and read_at is null) as unread;

-- name: after(user_id, after, limit)
select notification_id, seq, kind, data::text as data, created_at, read_at,
       (select languages from accounts where user_id = :user_id) as languages
from notifications
where user_id = :user_id and seq > :after order by seq limit :limit;

-- name: last_numbers(user_ids)
select user_id, last_seq from notification_settings where user_id = any(:user_ids::uuid[]);
