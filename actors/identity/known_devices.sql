-- name: remember(user_id, network)!
-- Updated at most about once a day: frequent logins write nothing.
insert into known_networks as known (user_id, network) values (:user_id, :network::cidr)
on conflict (user_id, network) do update set seen_at = now() where known.seen_at < now() - interval '1 day';

-- name: purge(days, limit)$
with gone as (
    delete from known_networks where (user_id, network) in (
        select user_id, network from known_networks where seen_at < now() - make_interval(days => :days)
        order by seen_at limit :limit)
    returning 1
)
select count(*) from gone;
