-- name: add_user(user_id, email, password_hash, full_name, role, is_verified)^
insert into users (user_id, email, password_hash, full_name, role, is_verified)
values (:user_id, :email, :password_hash, :full_name, :role, :is_verified)
returning user_id, email, full_name, role, is_verified, is_active, created_at;

-- name: add_profile(user_id)!
insert into user_profiles (user_id) values (:user_id);

-- name: user_by_id(user_id)^
select user_id, email, full_name, role, is_verified, is_active, created_at
from users where user_id = :user_id and deleted_at is null;

-- name: user_by_email(email)^
select user_id, email, full_name, role, is_verified, is_active, created_at, password_hash
from users where lower(email) = lower(:email) and deleted_at is null;

-- name: add_mail_token(token_id, user_id, purpose, token_hash, ttl_s)!
insert into mail_tokens (token_id, user_id, purpose, token_hash, expires_at)
values (:token_id, :user_id, :purpose, :token_hash, now() + make_interval(secs => :ttl_s));

-- name: use_mail_token(token_hash, purpose)^
-- One statement: of any number at once exactly one gets the row.
update mail_tokens set used_at = now()
where token_hash = :token_hash and purpose = :purpose and used_at is null and expires_at > now()
returning user_id;

-- name: mark_verified(user_id)^
update users set is_verified = true
where user_id = :user_id and deleted_at is null
returning user_id, email, full_name, role, is_verified, is_active, created_at;

-- name: lock_admins()
-- Locked in one order, so that two admins who demote each other do not both succeed.
select user_id from users
where role = 'admin' and is_active and deleted_at is null
order by user_id for update;

-- name: change_user(role, is_active, user_id)^
update users set role = coalesce(:role, role), is_active = coalesce(:is_active, is_active)
where user_id = :user_id and deleted_at is null
returning user_id, email, full_name, role, is_verified, is_active, created_at;

-- name: set_password_hash(password_hash, user_id)!
update users set password_hash = :password_hash where user_id = :user_id and deleted_at is null;
