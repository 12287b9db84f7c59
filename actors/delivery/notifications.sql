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
