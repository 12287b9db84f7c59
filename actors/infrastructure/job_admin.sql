-- name: list_jobs(kind, state, after, limit)
select job_id, kind, priority, state, run_at, deadline, attempts, max_attempts, lost, postponed, worker, lease_until,
       unique_key, order_key, cancel_requested_at, progress, last_error, payload, traceparent, created_at
from jobs
where (:kind::text is null or kind = :kind) and (:state::text is null or state = :state) and job_id > :after
order by job_id limit :limit;

-- name: job(job_id)^
select job_id, kind, priority, state, run_at, deadline, attempts, max_attempts, lost, postponed, worker, lease_until,
       unique_key, order_key, cancel_requested_at, progress, last_error, payload, traceparent, created_at
from jobs where job_id = :job_id;

-- name: finished_job(job_id)^
select job_id, kind, outcome, attempts, created_at, finished_at from finished_jobs where job_id = :job_id;

-- name: list_dead_jobs(kind, reason, since, all, before_at, before_id, limit)
select job_id, kind, priority, attempts, max_attempts, reason, error, payload, progress, unique_key, order_key, traceparent,
       created_at, died_at, replayed_as, discarded_at, replays
from dead_jobs
where (:kind::text is null or kind = :kind) and (:reason::text is null or reason = :reason)
      and (:since::timestamptz is null or died_at >= :since)
      and (:all or (replayed_as is null and discarded_at is null))
      and (:before_at::timestamptz is null or (died_at, job_id) < (:before_at, :before_id::bigint))
order by died_at desc, job_id desc limit :limit;

-- name: oldest_dead_jobs(kind, reason, since, until, limit)
-- Those that wait for a decision, oldest first.
select job_id from dead_jobs
where replayed_as is null and discarded_at is null and died_at <= :until
      and (:kind::text is null or kind = :kind) and (:reason::text is null or reason = :reason)
      and (:since::timestamptz is null or died_at >= :since)
order by died_at, job_id limit :limit;

-- name: dead_job(job_id)^
select job_id, kind, priority, attempts, max_attempts, reason, error, payload, progress, unique_key, order_key, traceparent,
       created_at, died_at, replayed_as, discarded_at, replays
from dead_jobs where job_id = :job_id;

-- name: cancel_waiting(job_id, keep_s)^
with gone as (
    delete from jobs where job_id = :job_id and state <> 'running'
    returning job_id, kind, order_key, attempts, created_at
), kept as (
    insert into finished_jobs (job_id, kind, outcome, attempts, created_at, keep_until)
    select job_id, kind, 'cancelled', attempts, created_at, clock_timestamp() + make_interval(secs => :keep_s) from gone
    where :keep_s > 0
)
select kind, order_key from gone;

-- name: request_cancel(job_id)$
update jobs set cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
where job_id = :job_id and state = 'running' returning kind;

-- name: retry_now(job_id)$
update jobs set run_at = clock_timestamp() where job_id = :job_id and state = 'waiting' returning kind;

-- name: set_priority(job_id, priority)$
update jobs set priority = :priority where job_id = :job_id and state <> 'running' returning kind;

-- name: take_dead(job_id)^
-- Locked, so that of two simultaneous replays one succeeds.
select job_id, kind, order_key, halts, replayed_as, discarded_at from dead_jobs where job_id = :job_id for update;

-- name: replay(job_id, delay_s, blocked)^
-- A new job with no attempt counted and the same time to its deadline as the first. A waiting twin replaces it.
with dead as (
    select * from dead_jobs where job_id = :job_id and replayed_as is null and discarded_at is null
), made as (
    insert into jobs (kind, version, priority, run_at, deadline, max_attempts, unique_key, unique_active, order_key, state,
                      payload, progress, traceparent, replays)
    select kind, version, priority, clock_timestamp() + make_interval(secs => :delay_s),
           clock_timestamp() + (deadline - created_at), max_attempts, unique_key, unique_active, order_key,
           case when :blocked then 'blocked' else 'waiting' end, payload, progress, traceparent, replays + 1
    from dead
    on conflict (kind, unique_key) where unique_key is not null and (state <> 'running' or unique_active) do nothing
    returning job_id
), twin as (
    select j.job_id from jobs j join dead d on d.kind = j.kind and d.unique_key = j.unique_key
    where j.state <> 'running' or j.unique_active limit 1
)
select coalesce((select job_id from made), (select job_id from twin)) as job_id;

-- name: head_of(kind, order_key)$
select exists (select from jobs where kind = :kind and order_key = :order_key and state <> 'blocked');

-- name: mark_replayed(job_id, replayed_as)$
update dead_jobs set replayed_as = :replayed_as
where job_id = :job_id and replayed_as is null and discarded_at is null returning kind;

-- name: discard(job_id)$
update dead_jobs set discarded_at = clock_timestamp()
where job_id = :job_id and replayed_as is null and discarded_at is null returning kind;

-- name: set_paused(kind, paused)!
insert into job_kinds (kind, paused) values (:kind, :paused)
on conflict (kind) do update set paused = excluded.paused, version = job_kinds.version + 1;

-- name: set_limit(kind, max_running)!
insert into job_kinds (kind, max_running) values (:kind, :max_running)
on conflict (kind) do update set max_running = excluded.max_running, version = job_kinds.version + 1;

-- name: depths(kinds, most)
-- By kind: the waiting and the blocked jobs, both counted to a limit, the running ones, and the age of the oldest due.
select k.kind,
       (select count(*) from (select from jobs j where j.kind = k.kind and j.state = 'waiting' and j.lost = 0
                              limit :most) as w)::int as waiting,
       (select count(*) from (select from jobs j where j.kind = k.kind and j.state = 'blocked' limit :most) as b)::int
           as blocked,
       (select count(*) from jobs j where j.kind = k.kind and j.state = 'running')::int as running,
       coalesce(greatest(0, extract(epoch from statement_timestamp() - least(
           (select j.run_at from jobs j where j.kind = k.kind and j.priority = 0 and j.state = 'waiting' and j.lost = 0
            order by j.run_at, j.job_id limit 1),
           (select j.run_at from jobs j where j.kind = k.kind and j.priority = 1 and j.state = 'waiting' and j.lost = 0
            order by j.run_at, j.job_id limit 1),
           (select j.run_at from jobs j where j.kind = k.kind and j.priority = 2 and j.state = 'waiting' and j.lost = 0
            order by j.run_at, j.job_id limit 1)))), 0)::float8 as oldest_s,
       (select count(*) from (select from dead_jobs d where d.kind = k.kind and d.replayed_as is null
                              and d.discarded_at is null limit :most) as d)::int as dead,
       coalesce(s.paused, false) as paused, s.max_running
from unnest(:kinds::text[]) as k (kind) left join job_kinds s on s.kind = k.kind
order by k.kind;

-- name: unknown_kinds(kinds, most)
-- Waiting kinds that no process declares, found by leaps along the index.
with recursive met as (
    (select kind from jobs where state = 'waiting' and lost = 0 order by kind limit 1)
    union all
    select (select j.kind from jobs j where j.state = 'waiting' and j.lost = 0 and j.kind > met.kind order by j.kind limit 1)
    from met where met.kind is not null
)
select m.kind,
       (select count(*) from (select from jobs j where j.kind = m.kind and j.state = 'waiting' and j.lost = 0
                              limit :most) as w)::int as waiting,
       extract(epoch from statement_timestamp() - (
           select min(j.created_at) from (select created_at from jobs j where j.kind = m.kind and j.state = 'waiting'
                                          and j.lost = 0 order by j.priority, j.run_at limit 100) as j))::float8 as oldest_s
from met m
where m.kind is not null and not m.kind = any(:kinds::text[]);

-- name: table_health()^
select coalesce((select n_dead_tup from pg_stat_user_tables where relname = 'jobs' and schemaname = current_schema()), 0)
           as dead_tuples,
       coalesce((select extract(epoch from max(statement_timestamp() - xact_start)) from pg_stat_activity
                 where backend_xmin is not null and pid <> pg_backend_pid()), 0)::float8 as oldest_snapshot_s;
