-- name: add_token(token_id, user_id, purpose, token_hash, ttl_s, email, most)$
-- Nothing comes back for an account that had so many in the last hour. Who holds the account's row counts right.
insert into mail_tokens (token_id, user_id, purpose, token_hash, expires_at, email)
select :token_id::uuid, :user_id::uuid, :purpose::text, :token_hash::bytea, now() + make_interval(secs => :ttl_s),
    :email::text
where :most > (
    select count(*) from mail_tokens
    where user_id = :user_id and purpose = :purpose and created_at > now() - interval '1 hour')
returning true;

-- name: lock_unverified(email)$
select user_id from users
where lower(email) = lower(:email) and is_active and not is_verified and deleted_at is null
for no key update;

-- name: use_token(token_hash)^
-- Of any number at once exactly one gets the row. It proves the account's own address, or the new one that `email` is.
-- The account is locked before its tokens, as wherever both are: two links of one account do not wait for each other.
with person as (
    select u.user_id from users u join mail_tokens t using (user_id) where t.token_hash = :token_hash for update of u
)
update mail_tokens t set used_at = now() from person
where t.token_hash = :token_hash and t.user_id = person.user_id and t.purpose in ('verify_email', 'change_email')
  and t.used_at is null and t.expires_at > now()
returning t.user_id, t.email;

-- name: spend_tokens(user_id)!
-- What was mailed to an address that is no more the account's is good for nothing.
update mail_tokens set used_at = now() where user_id = :user_id and used_at is null;
