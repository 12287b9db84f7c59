-- name: due(days, limit)
select user_id from users
where deleted_at <= now() - make_interval(days => :days) and erased_at is null
order by deleted_at
limit :limit;

-- name: is_deleted(user_id)$
select true from users where user_id = :user_id and deleted_at is not null;

-- name: mark_erased(user_id)$
update users set erased_at = now()
where user_id = :user_id and deleted_at is not null and erased_at is null
returning true;
