-- name: enqueue(kind, version, priority, run_at, delay_s, deadline, deadline_s, max_attempts, unique_key, unique_active, order_key, payload, traceparent)$
-- No row comes back for a twin. Times are the database's own, unless the domain gives one.
insert into jobs (kind, version, priority, run_at, deadline, max_attempts, unique_key, unique_active, order_key, state,
                  payload, traceparent)
values (:kind, :version, :priority,
        coalesce(:run_at, clock_timestamp()) + make_interval(secs => :delay_s),
        coalesce(:deadline, clock_timestamp() + make_interval(secs => :deadline_s)),
        :max_attempts, :unique_key, :unique_active, :order_key,
        case when :order_key::text is not null and (
            exists (select from jobs where kind = :kind and order_key = :order_key and state <> 'blocked')
            or exists (select from jobs where kind = :kind and order_key = :order_key and state = 'blocked')
            or exists (select from dead_jobs where kind = :kind and order_key = :order_key and halts
                       and replayed_as is null and discarded_at is null)) then 'blocked' else 'waiting' end,
        :payload::text::jsonb, :traceparent)
on conflict (kind, unique_key) where unique_key is not null and (state <> 'running' or unique_active) do nothing
returning job_id;

-- name: enqueue_many(kind, version, priority, run_at, delay_s, deadline, deadline_s, max_attempts, unique_keys, unique_active, order_keys, payloads, traceparent)
-- Jobs of one order key keep the order of the list; others are inserted by their unique keys, so that two batches that
-- share keys do not deadlock. Twins are left out.
insert into jobs (kind, version, priority, run_at, deadline, max_attempts, unique_key, unique_active, order_key, state,
                  payload, traceparent)
select :kind, :version, :priority,
       coalesce(:run_at, clock_timestamp()) + make_interval(secs => :delay_s),
       coalesce(:deadline, clock_timestamp() + make_interval(secs => :deadline_s)),
       :max_attempts, n.unique_key, :unique_active, n.order_key,
       case when n.order_key is not null and (
            row_number() over (partition by n.order_key order by n.ordinal) > 1
            or exists (select from jobs j where j.kind = :kind and j.order_key = n.order_key and j.state <> 'blocked')
            or exists (select from jobs j where j.kind = :kind and j.order_key = n.order_key and j.state = 'blocked')
            or exists (select from dead_jobs d where d.kind = :kind and d.order_key = n.order_key and d.halts
                       and d.replayed_as is null and d.discarded_at is null)) then 'blocked' else 'waiting' end,
       n.payload::jsonb, :traceparent
from unnest(:payloads::text[], :unique_keys::text[], :order_keys::text[])
     with ordinality as n (payload, unique_key, order_key, ordinal)
order by case when n.order_key is null then n.unique_key end nulls first, n.ordinal
on conflict (kind, unique_key) where unique_key is not null and (state <> 'running' or unique_active) do nothing
returning job_id, unique_key;

-- name: enqueue_plain(kind, version, priority, run_at, delay_s, deadline, deadline_s, max_attempts, payloads, traceparent)
-- Jobs without keys: nothing to look up and nothing to sort.
insert into jobs (kind, version, priority, run_at, deadline, max_attempts, payload, traceparent)
select :kind, :version, :priority,
       coalesce(:run_at, clock_timestamp()) + make_interval(secs => :delay_s),
       coalesce(:deadline, clock_timestamp() + make_interval(secs => :deadline_s)),
       :max_attempts, n.payload::jsonb, :traceparent
from unnest(:payloads::text[]) as n (payload)
returning job_id;

-- name: lock_order(kind, order_keys)!
-- Held until the cause commits: so the order of a key's jobs is the order of their commits.
select pg_advisory_xact_lock(hashtext(:kind), k.hash)
from (select distinct hashtext(o) as hash from unnest(:order_keys::text[]) as o where o is not null order by 1) as k;

-- name: lock_twins(kind, unique_keys)
-- An unstarted twin cannot start before the transaction that found it ends.
select unique_key from jobs
where kind = :kind and unique_key = any(:unique_keys::text[]) and unique_key is not null and state <> 'running'
order by unique_key
for key share;

-- name: active_twins(kind, unique_keys)
select unique_key from jobs
where kind = :kind and unique_key = any(:unique_keys::text[]) and unique_key is not null and unique_active
      and state = 'running';

-- name: count_unfinished(kind, most)$
select count(*) from (
    select from jobs where kind = :kind and state = 'waiting' and lost = 0 limit :most) as waiting;

-- name: withdraw(kind, unique_key)$
-- An unstarted job without an order key: no other job waits for its end.
with gone as (
    delete from jobs
    where kind = :kind and unique_key = :unique_key and unique_key is not null and state = 'waiting' and order_key is null
    returning 1)
select count(*) from gone;
