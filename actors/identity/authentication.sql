-- name: credentials_by_email(email, network, days)^
-- Also whether the network is known for the account. Without an account the same lookups are made.
select user_id, email, is_verified, is_active, password_hash, password_changed_at, exists (
    select from known_networks known
    where known.user_id = coalesce(u.user_id, '00000000-0000-0000-0000-000000000000') and known.network = :network::cidr
      and known.seen_at > now() - make_interval(days => :days)) as is_known
from (select) as always left join users u on lower(u.email) = lower(:email) and u.deleted_at is null;

-- name: credentials_by_id(user_id)^
select user_id, email, is_verified, is_active, password_hash, password_changed_at
from users where user_id = :user_id and deleted_at is null;

-- name: renew_hash(renewed, user_id, password_hash)!
-- Only if the hash has not changed meanwhile: the verified password may be outdated.
update users set password_hash = :renewed where user_id = :user_id and password_hash = :password_hash;
