-- name: remember(user_id, network)!
-- Updated at most about once a day: frequent logins write nothing.
insert into known_networks as known (user_id, network) values (:user_id, :network::cidr)
on conflict (user_id, network) do update set seen_at = now() where known.seen_at < now() - interval '1 day';

