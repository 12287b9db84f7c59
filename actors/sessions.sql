-- name: add_session(session_id, user_id, refresh_hash, device, ip, ttl_s)!
insert into sessions (session_id, user_id, refresh_hash, device, ip, expires_at)
values (:session_id, :user_id, :refresh_hash, :device, :ip, now() + make_interval(secs => :ttl_s));

-- name: living_session(session_id, user_id)^
select s.session_id, u.user_id, u.email, u.role, u.is_active
from sessions s join users u using (user_id)
where s.session_id = :session_id and s.user_id = :user_id
  and s.ended_at is null and s.expires_at > now() and u.deleted_at is null;

-- name: end_sessions(user_id, keep)!
update sessions set ended_at = now()
where user_id = :user_id and ended_at is null and session_id is distinct from :keep::uuid;
