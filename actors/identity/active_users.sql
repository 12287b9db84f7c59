-- name: count_active_users(lately_s)$
select count(distinct user_id) from sessions
where ended_at is null and used_at > now() - make_interval(secs => :lately_s);
