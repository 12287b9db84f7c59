-- name: credentials_by_email(email)^
select user_id, email, is_verified, is_active, password_hash, password_changed_at
from users where lower(email) = lower(:email) and deleted_at is null;

-- name: credentials_by_id(user_id)^
select user_id, email, is_verified, is_active, password_hash, password_changed_at
from users where user_id = :user_id and deleted_at is null;

-- name: renew_hash(renewed, user_id, password_hash)!
-- Unless it has changed meanwhile: the password that was checked may not be the password any more.
update users set password_hash = :renewed where user_id = :user_id and password_hash = :password_hash;
