-- name: lock_person_by_email(email)^
-- Every change of a password first locks its account, so that two of them do not deadlock.
select user_id from users
where lower(email) = lower(:email) and is_active and deleted_at is null
for no key update;

-- name: lock_person(user_id)$
select user_id from users where user_id = :user_id and is_active and deleted_at is null for no key update;

-- name: reset_owner(token_hash)^
select u.user_id, u.email, u.full_name
from mail_tokens t join users u using (user_id)
where t.token_hash = :token_hash and t.purpose = 'reset_password' and t.used_at is null and t.expires_at > now()
  and u.is_active and u.deleted_at is null;

-- name: use_reset_token(token_hash)$
update mail_tokens set used_at = now()
where token_hash = :token_hash and purpose = 'reset_password' and used_at is null and expires_at > now()
returning true;

-- name: spend_secrets(user_id)!
-- The other reset links, and the links that prove a new address: a user who changes the password because a stranger
-- requested that address must be rid of them.
update mail_tokens set used_at = now()
where user_id = :user_id and purpose in ('reset_password', 'change_email', 'verify_email') and used_at is null;

-- name: set_password(password_hash, user_id, password_changed_at)$
-- Only if the password has not changed since the time that the caller has read.
update users set password_hash = :password_hash, password_changed_at = now()
where user_id = :user_id and is_active and deleted_at is null
  and password_changed_at = coalesce(:password_changed_at, password_changed_at)
returning true;

-- name: full_name(user_id)$
select full_name from users where user_id = :user_id and deleted_at is null;

-- name: prove_mailbox(user_id)$
update users set is_verified = true, password_needed = false
where user_id = :user_id and not is_verified and deleted_at is null
returning true;
