-- Lists of accounts, newest first: one query for each index, since one query for all filters gets one plan for all. The
-- other filters are applied to the rows of the index.

-- name: list_all(email, role, is_verified, is_active, created_after, before, before_id, limit)
select user_id, email, full_name, role, is_verified, is_active, created_at
from users
where deleted_at is null and (created_at, user_id) < (:before, :before_id) and created_at > :created_after
  and (:email::text is null or lower(email) = lower(:email)) and (:role::text is null or role = :role)
  and (:is_verified::boolean is null or is_verified = :is_verified)
  and (:is_active::boolean is null or is_active = :is_active)
order by created_at desc, user_id desc
limit :limit;

-- name: list_by_email(email, role, is_verified, is_active, created_after, before, before_id, limit)
select user_id, email, full_name, role, is_verified, is_active, created_at
from users
where deleted_at is null and lower(email) = lower(:email)
  and (created_at, user_id) < (:before, :before_id) and created_at > :created_after
  and (:role::text is null or role = :role) and (:is_verified::boolean is null or is_verified = :is_verified)
  and (:is_active::boolean is null or is_active = :is_active)
order by created_at desc, user_id desc
limit :limit;

-- name: list_by_role(email, role, is_verified, is_active, created_after, before, before_id, limit)
select user_id, email, full_name, role, is_verified, is_active, created_at
from users
where deleted_at is null and role = :role
  and (created_at, user_id) < (:before, :before_id) and created_at > :created_after
  and (:email::text is null or lower(email) = lower(:email))
  and (:is_verified::boolean is null or is_verified = :is_verified)
  and (:is_active::boolean is null or is_active = :is_active)
order by created_at desc, user_id desc
limit :limit;

-- name: list_inactive(email, role, is_verified, created_after, before, before_id, limit)
select user_id, email, full_name, role, is_verified, is_active, created_at
from users
where deleted_at is null and not is_active
  and (created_at, user_id) < (:before, :before_id) and created_at > :created_after
  and (:email::text is null or lower(email) = lower(:email)) and (:role::text is null or role = :role)
  and (:is_verified::boolean is null or is_verified = :is_verified)
order by created_at desc, user_id desc
limit :limit;

-- name: list_active(email, role, is_verified, created_after, before, before_id, limit)
select user_id, email, full_name, role, is_verified, is_active, created_at
from users
where deleted_at is null and is_active
  and (created_at, user_id) < (:before, :before_id) and created_at > :created_after
  and (:email::text is null or lower(email) = lower(:email)) and (:role::text is null or role = :role)
  and (:is_verified::boolean is null or is_verified = :is_verified)
order by created_at desc, user_id desc
limit :limit;

-- name: list_unverified(email, role, is_active, created_after, before, before_id, limit)
select user_id, email, full_name, role, is_verified, is_active, created_at
from users
where deleted_at is null and not is_verified
  and (created_at, user_id) < (:before, :before_id) and created_at > :created_after
  and (:email::text is null or lower(email) = lower(:email)) and (:role::text is null or role = :role)
  and (:is_active::boolean is null or is_active = :is_active)
order by created_at desc, user_id desc
limit :limit;

-- name: plan_search()!
select set_config('enable_seqscan', 'off', true), set_config('work_mem', '16MB', true);

-- name: search_users(pattern, has_trigram, window, rare, email, role, is_verified, is_active, created_after, before, before_id, limit)
-- The newest `window` accounts are searched first: matches of a frequent part fill the page there. Then the trigram
-- index is asked for the rest, which is fast for a rare part. For a part that is neither rare nor in the newest
-- accounts, the remaining rows are read in order until the page is full. A part of one or two characters has no
-- trigram: only the window is searched.
with newest as materialized (
    select user_id, email, full_name, role, is_verified, is_active, created_at
    from users
    where deleted_at is null and (created_at, user_id) < (:before, :before_id)
    order by created_at desc, user_id desc
    limit :window
), oldest as materialized (
    select created_at, user_id from newest order by created_at, user_id limit 1
), near as materialized (
    select * from newest where (full_name || ' ' || email) ilike :pattern
      and created_at > :created_after and (:email::text is null or lower(email) = lower(:email))
      and (:role::text is null or role = :role) and (:is_verified::boolean is null or is_verified = :is_verified)
      and (:is_active::boolean is null or is_active = :is_active)
    order by created_at desc, user_id desc
    limit :limit
), rare as materialized (
    select user_id from users
    where deleted_at is null and (full_name || ' ' || email) ilike :pattern
      and :has_trigram and (select count(*) from near) < :limit
    limit :rare + 1
), far as (
    (select one.*
     from rare cross join lateral (  -- the limit keeps the planner from joining with all accounts
        select user_id, email, full_name, role, is_verified, is_active, created_at
        from users where users.user_id = rare.user_id limit 1) as one
     where (select count(*) from rare) <= :rare)
    union all
    (select * from (  -- in the order of its index: `offset` keeps the condition out of the subquery
        select user_id, email, full_name, role, is_verified, is_active, created_at
        from users
        where deleted_at is null and (created_at, user_id) < (select created_at, user_id from oldest)
          and (select count(*) from rare) > :rare
        order by created_at desc, user_id desc
        offset 0) as older
     where (full_name || ' ' || email) ilike :pattern
       and created_at > :created_after and (:email::text is null or lower(email) = lower(:email))
       and (:role::text is null or role = :role) and (:is_verified::boolean is null or is_verified = :is_verified)
       and (:is_active::boolean is null or is_active = :is_active)
     limit :limit)
)
(select * from near)
union all
(select * from far
 where (created_at, user_id) < (select created_at, user_id from oldest)
   and created_at > :created_after and (:email::text is null or lower(email) = lower(:email))
   and (:role::text is null or role = :role) and (:is_verified::boolean is null or is_verified = :is_verified)
   and (:is_active::boolean is null or is_active = :is_active)
 order by created_at desc, user_id desc
 limit :limit)
limit :limit;
