-- The leases: the leader of each, and its expiry.

-- name: take(name, holder, life_s)$
-- The new fence, or no row while another holds the lease. A holder whose connection has ended holds nothing.
insert into leases as l (name, holder, backend_pid, fence, expires_at)
values (:name, :holder, pg_backend_pid(), 1, now() + make_interval(secs => :life_s))
on conflict (name) do update
set holder = excluded.holder, backend_pid = excluded.backend_pid, fence = l.fence + 1, expires_at = excluded.expires_at
where l.expires_at <= now() or not exists (select from pg_stat_activity as a where a.pid = l.backend_pid)
returning fence;

-- name: renew(name, fence, life_s)$
update leases set expires_at = now() + make_interval(secs => :life_s)
where name = :name and fence = :fence
returning fence;

-- name: release(name, fence)!
update leases set expires_at = now() where name = :name and fence = :fence;
