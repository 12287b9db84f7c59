-- name: profile_of(user_id)^
select user_id, avatar_url, bio, preferences::text as preferences, p.updated_at, languages
from user_profiles p join users u using (user_id)
where user_id = :user_id and u.deleted_at is null;

-- name: lock_profile(user_id)^
select user_id, avatar_url, bio, preferences::text as preferences, p.updated_at, languages
from user_profiles p join users u using (user_id)
where user_id = :user_id and u.deleted_at is null
for update of p;

-- name: put_profile(avatar_url, bio, preferences, languages, user_id)^
update user_profiles
set avatar_url = :avatar_url, bio = :bio, preferences = :preferences::json,
    languages = coalesce(:languages::text[], languages)
where user_id = :user_id
returning user_id, avatar_url, bio, preferences::text as preferences, updated_at, languages;

-- name: export_profile(user_id, after, limit)
select ''::text as cursor, row_to_json(x)::text as document from (
    select avatar_url, bio, preferences, languages, created_at, updated_at
    from user_profiles where user_id = :user_id and :after::text is null limit :limit) x;

-- name: erase_profile(user_id, limit)$
with gone as (
    delete from user_profiles where user_id in (select user_id from user_profiles where user_id = :user_id limit :limit)
    returning 1
)
select count(*) from gone;
