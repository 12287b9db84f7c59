-- name: lock_addresses(emails)!
-- Held until the end of the transaction, in one order. Every statement that gives an address to an account needs it.
select pg_advisory_xact_lock(hashtextextended(address, 0))
from (select distinct lower(email) as address from unnest(:emails::text[]) as given (email) order by 1) as addresses;

-- name: retire_unproven(email)$
update users set deleted_at = now()
where lower(email) = lower(:email) and not is_verified and deleted_at is null
returning user_id;

-- name: move_tokens(new_id, old_id)!
-- Verification links of the earlier registration die. Reset links prove the mailbox, so they move.
update mail_tokens
set user_id = :new_id, used_at = case when purpose = 'reset_password' then used_at else coalesce(used_at, now()) end
where user_id = :old_id;

-- name: remove_retired(user_id)!
delete from users where user_id = :user_id and not is_verified and deleted_at is not null;

-- name: remove_unproven(emails)
delete from users
where lower(email) in (select lower(email) from unnest(:emails::text[]) as given (email))
  and not is_verified and deleted_at is null
returning user_id;

-- name: purge_unproven(days, limit)
delete from users where user_id in (
    select user_id from users
    where not is_verified and deleted_at is null and unproven_since < now() - make_interval(days => :days)
    order by unproven_since limit :limit for update skip locked)
returning user_id;

-- name: oldest_unproven(days)$
select extract(epoch from now() - make_interval(days => :days) - min(unproven_since))::float8 from users
where not is_verified and deleted_at is null;
