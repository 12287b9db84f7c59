-- name: usage(user_id)^
select content_rows, content_bytes from user_usage where user_id = :user_id;

-- name: use(user_id, name, window_s)^
-- Counts one, and returns the number in a sliding window: the earlier period counts by its overlap with the window.
insert into user_rates as u (user_id, name, period, used)
values (:user_id, :name, date_bin(make_interval(secs => :window_s), now(), 'epoch'), 1)
on conflict (user_id, name) do update
set used = case when u.period = excluded.period then u.used + 1 else 1 end,
    previous = case when u.period = excluded.period then u.previous
                    when u.period = excluded.period - make_interval(secs => :window_s) then u.used
                    else 0 end,
    period = excluded.period
returning used, previous,
          extract(epoch from now() - period)::double precision as elapsed_s;
