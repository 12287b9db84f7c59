-- name: profile_of(user_id)^
select user_id, avatar_url, bio, preferences::text as preferences, p.updated_at
from user_profiles p join users u using (user_id)
where user_id = :user_id and u.deleted_at is null;

-- name: lock_profile(user_id)^
select user_id, avatar_url, bio, preferences::text as preferences, p.updated_at
from user_profiles p join users u using (user_id)
where user_id = :user_id and u.deleted_at is null
for update of p;

-- name: put_profile(avatar_url, bio, preferences, user_id)^
update user_profiles
set avatar_url = :avatar_url, bio = :bio, preferences = :preferences::json
where user_id = :user_id
returning user_id, avatar_url, bio, preferences::text as preferences, updated_at;
