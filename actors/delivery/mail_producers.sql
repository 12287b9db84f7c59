-- The quotas of mail producers. A period begins at the same moment in every process, by the database's clock.

-- name: reserve(source, count, quota, period_s)$
-- Count mails against a quota: return the number used in this period, or no row if they do not all fit.
insert into mail_producer_usage as u (source, period_start, used)
select :source, date_bin(make_interval(secs => :period_s), now(), 'epoch'), :count::integer
where :count::integer <= :quota::integer
on conflict (source) do update
set period_start = excluded.period_start,
    used = excluded.used + case when u.period_start = excluded.period_start then u.used else 0 end
where excluded.used + case when u.period_start = excluded.period_start then u.used else 0 end <= :quota::integer
returning used;

-- name: seconds_left(period_s)$
-- The seconds until the current period ends.
select extract(epoch from
    date_bin(make_interval(secs => :period_s), now(), 'epoch') + make_interval(secs => :period_s) - now()
)::float8;
