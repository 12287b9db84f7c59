-- name: preferences_of(user_id)^
select digest, channels::text as channels from notification_settings where user_id = :user_id;

-- name: lock_preferences(user_id)^
-- The row is made if there is none; a deleted account has none.
insert into notification_settings as s (user_id)
select user_id from accounts where user_id = :user_id and not is_deleted
on conflict (user_id) do update set digest = s.digest
returning digest, channels::text as channels;

-- name: put_preferences(user_id, digest, channels)^
update notification_settings set digest = :digest, channels = :channels::text::jsonb
where user_id = :user_id
returning digest, channels::text as channels;

-- name: release_waiting(user_id, mailed)!
-- Notifications of kinds that are no longer mailed leave the digest.
update notifications set waits = false
where user_id = :user_id and waits and kind <> all(:mailed::text[]);

-- name: export_preferences(user_id, after, limit)
select ''::text as cursor, row_to_json(x)::text as document from (
    select digest, channels, created_at, updated_at
    from notification_settings where user_id = :user_id and :after::text is null limit :limit) x;

-- name: erase_preferences(user_id, limit)$
with gone as (
    delete from notification_settings where user_id in (
        select user_id from notification_settings where user_id = :user_id limit :limit)
    returning 1
)
select count(*) from gone;
