-- name: credentials_by_email(email, network, days)^
-- And whether the network is a known one of the account. The same is looked for where there is no account.
select user_id, email, is_verified, is_active, password_hash, password_changed_at, exists (
    select from known_networks known
    where known.user_id = coalesce(u.user_id, '00000000-0000-0000-0000-000000000000') and known.network = :network::cidr
      and known.seen_at > now() - make_interval(days => :days)) as is_known
from (select) as always left join users u on lower(u.email) = lower(:email) and u.deleted_at is null;

-- name: credentials_by_id(user_id)^
select user_id, email, is_verified, is_active, password_hash, password_changed_at
from users where user_id = :user_id and deleted_at is null;

-- name: renew_hash(renewed, user_id, password_hash)!
-- Unless it has changed meanwhile: the password that was checked may not be the password any more.
update users set password_hash = :renewed where user_id = :user_id and password_hash = :password_hash;
