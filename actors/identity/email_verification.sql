-- name: add_token(token_id, user_id, purpose, token_hash, ttl_s, email, session_id, most)$
-- No row comes back if the account had the maximum in the last hour. The caller's lock on the account's row makes the
-- count exact.
insert into mail_tokens (token_id, user_id, purpose, token_hash, expires_at, email, session_id)
select :token_id::uuid, :user_id::uuid, :purpose::text, :token_hash::bytea, now() + make_interval(secs => :ttl_s),
    :email::text, :session_id::uuid
where :most > (
    select count(*) from mail_tokens
    where user_id = :user_id and purpose = :purpose and created_at > now() - interval '1 hour')
returning true;

-- name: need_password(email)^
-- Locks the unproven account of an address. From now on its links need a password: a different person may have typed
-- the first.
update users set password_needed = true, unproven_since = now()
where lower(email) = lower(:email) and is_active and not is_verified and deleted_at is null
returning user_id, created_at, host(registered_from) as ip;

-- name: link(token_hash)^
-- The purpose of a link and its account; `email` is the address that it proves.
select t.purpose, u.user_id, u.full_name, coalesce(t.email, u.email) as email, u.password_needed
from mail_tokens t join users u using (user_id)
where t.token_hash = :token_hash and t.purpose in ('verify_email', 'change_email', 'undo_email')
  and t.used_at is null and t.expires_at > now() and u.deleted_at is null;

-- name: use_token(token_hash)^
-- Of any number of simultaneous uses exactly one gets the row. The account is locked before its tokens, in every
-- statement that locks both, so two links of one account do not deadlock.
with person as (
    select u.user_id, u.email, u.full_name, u.password_needed from users u join mail_tokens t using (user_id)
    where t.token_hash = :token_hash and u.deleted_at is null for update of u
)
update mail_tokens t set used_at = now() from person
where t.token_hash = :token_hash and t.user_id = person.user_id
  and t.purpose in ('verify_email', 'change_email', 'undo_email') and t.used_at is null and t.expires_at > now()
returning t.user_id, t.purpose, t.email, t.session_id, t.created_at, person.email as old_email, person.full_name,
          person.password_needed;

-- name: spend_tokens(user_id)!
-- Links mailed to an address that the account no longer has are invalid, except the undo link.
update mail_tokens set used_at = now() where user_id = :user_id and used_at is null and purpose <> 'undo_email';

-- name: spend_later_undos(user_id, created_at)!
-- Undo links of later changes end too: their addresses are not the owner's.
update mail_tokens set used_at = now()
where user_id = :user_id and used_at is null and purpose = 'undo_email' and created_at >= :created_at;

-- name: purge_tokens(limit)$
-- The archive of an export goes with its token, as soon as that has expired.
with old as (
    select token_id from mail_tokens where expires_at < now() - interval '7 days'
    order by expires_at limit :limit for update skip locked
), expired as (
    select token_id from mail_tokens where purpose = 'export' and expires_at <= now()
    order by expires_at limit :limit for update skip locked
), used as (
    select token_id from mail_tokens where purpose = 'export' and used_at < now() - interval '2 hours'
    order by used_at limit :limit for update skip locked
), gone as (
    delete from mail_tokens where token_id in (
        select token_id from old union select token_id from expired union select token_id from used)
    returning 1)
select count(*) from gone;

-- name: oldest_token()$
select extract(epoch from now() - interval '7 days' - min(expires_at))::float8 from mail_tokens;
