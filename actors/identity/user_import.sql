-- name: remove_unproven(emails, password_hashes, full_names, verified)
-- An unproven account is replaced, unless it is identical: the import may run again.
delete from users u
using unnest(:emails::text[], :password_hashes::text[], :full_names::text[], :verified::boolean[])
      as given (email, password_hash, full_name, is_verified)
where lower(u.email) = lower(given.email) and not u.is_verified and u.deleted_at is null
  and (given.is_verified or u.password_hash <> given.password_hash or u.full_name <> given.full_name)
returning u.user_id, lower(u.email) as address;

-- name: import_users(user_ids, emails, password_hashes, full_names, roles, verified, created, replaced)
-- An address that has an account is left unchanged, so that the same import may run again. The links of an address that
-- was registered before need a password.
insert into users (user_id, email, password_hash, full_name, role, is_verified, created_at, password_needed)
select user_id, email, password_hash, full_name, role, is_verified, coalesce(created_at, now()),
       not is_verified and lower(email) = any(:replaced::text[])
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
