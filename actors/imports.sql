-- name: import_users(user_ids, emails, password_hashes, full_names, roles, verified, created)
-- Whose address has an account already is left as they are, so that the same import may be made again.
insert into users (user_id, email, password_hash, full_name, role, is_verified, created_at)
select user_id, email, password_hash, full_name, role, is_verified, coalesce(created_at, now())
from unnest(:user_ids::uuid[], :emails::text[], :password_hashes::text[], :full_names::text[], :roles::text[],
            :verified::boolean[], :created::timestamptz[])
     as given (user_id, email, password_hash, full_name, role, is_verified, created_at)
on conflict (lower(email)) where deleted_at is null do nothing
returning user_id, email, is_verified;

-- name: import_profiles(user_ids)!
insert into user_profiles (user_id) select unnest(:user_ids::uuid[]);

-- name: import_tokens(token_ids, user_ids, token_hashes, ttl_s)!
insert into mail_tokens (token_id, user_id, purpose, token_hash, expires_at)
select token_id, user_id, 'verify_email', token_hash, now() + make_interval(secs => :ttl_s)
from unnest(:token_ids::uuid[], :user_ids::uuid[], :token_hashes::bytea[]) as made (token_id, user_id, token_hash);
