-- name: complete_many(job_ids, lease_ids)
-- Only the fence is in the condition: with more in it the planner walks the index of running jobs.
delete from jobs j using unnest(:job_ids::bigint[], :lease_ids::bigint[]) as d (job_id, lease_id)
where j.job_id = d.job_id and j.lease_id = d.lease_id
returning j.job_id;

-- name: complete_kept(job_ids, lease_ids, keep_s)
-- As above, for kinds with stored outcomes or waiting order keys.
with gone as (
    delete from jobs j
    using unnest(:job_ids::bigint[], :lease_ids::bigint[], :keep_s::float8[]) as d (job_id, lease_id, keep_s)
    where j.job_id = d.job_id and j.lease_id = d.lease_id
    returning j.job_id, j.kind, j.order_key, j.attempts, j.created_at, d.keep_s
), kept as (
    insert into finished_jobs (job_id, kind, outcome, attempts, created_at, keep_until)
    select job_id, kind, 'done', attempts, created_at, clock_timestamp() + make_interval(secs => keep_s) from gone
    where keep_s > 0
)
select job_id, kind, order_key from gone;

-- name: end_job(job_id, lease_id, outcome, keep_s)^
-- The end of a job that is not done: cancelled or expired.
with gone as (
    delete from jobs where job_id = :job_id and lease_id = :lease_id
    returning job_id, kind, order_key, attempts, created_at
), kept as (
    insert into finished_jobs (job_id, kind, outcome, attempts, created_at, keep_until)
    select job_id, kind, :outcome, attempts, created_at, clock_timestamp() + make_interval(secs => :keep_s) from gone
    where :keep_s > 0
)
select job_id, kind, order_key from gone;

-- name: put_back(job_id, lease_id, delay_s, given_back, error, survived)$
-- Puts a job back. `given_back` is 1 if the attempt does not count. No delay exceeds the deadline. No row comes back if
-- the job is no longer held, or is to be cancelled.
update jobs
set state = 'waiting', lease_id = null, lease_until = null, worker = null,
    lost = case when :survived then 0 else lost end,
    attempts = attempts - :given_back, postponed = postponed + :given_back, last_error = coalesce(:error, last_error),
    run_at = least(statement_timestamp() + make_interval(secs => :delay_s),
                   greatest(coalesce(deadline, 'infinity'), statement_timestamp()))
where job_id = :job_id and lease_id = :lease_id and cancel_requested_at is null
returning true;

-- name: supersede(job_id, lease_id, given_back, keep_s)^
-- A retry that meets a waiting twin: the twin takes the larger number of attempts, and the retried job ends.
with mine as (
    select job_id, kind, unique_key, order_key, attempts, created_at from jobs
    where job_id = :job_id and lease_id = :lease_id
), twin as (
    update jobs t set attempts = least(t.max_attempts - 1, greatest(t.attempts, m.attempts - :given_back))
    from mine m
    where t.kind = m.kind and t.unique_key = m.unique_key and t.state <> 'running' and t.job_id <> m.job_id
    returning t.job_id
), gone as (
    delete from jobs j where j.job_id = :job_id and j.lease_id = :lease_id and exists (select from twin)
    returning j.job_id
), kept as (
    insert into finished_jobs (job_id, kind, outcome, attempts, created_at, keep_until)
    select m.job_id, m.kind, 'superseded', m.attempts, m.created_at, clock_timestamp() + make_interval(secs => :keep_s)
    from mine m join gone g using (job_id) where :keep_s > 0
)
select m.order_key from mine m join gone g using (job_id);

-- name: dead_letter(job_id, lease_id, reason, error, halts, keep_s)^
with gone as (
    delete from jobs where job_id = :job_id and lease_id = :lease_id returning *
), kept as (
    insert into finished_jobs (job_id, kind, outcome, attempts, created_at, keep_until)
    select job_id, kind, 'dead', attempts, created_at, clock_timestamp() + make_interval(secs => :keep_s) from gone
    where :keep_s > 0
)
insert into dead_jobs (job_id, kind, version, priority, attempts, postponed, max_attempts, unique_key, unique_active,
                       order_key, halts, payload, progress, reason, error, traceparent, deadline, created_at, replays)
select job_id, kind, version, priority, attempts, postponed, max_attempts, unique_key, unique_active, order_key,
       :halts and order_key is not null, payload, progress, :reason, :error, traceparent, deadline, created_at, replays
from gone
returning job_id, kind, order_key, attempts, payload;

-- name: held(job_id, lease_id)^
select cancel_requested_at is not null as cancelled from jobs where job_id = :job_id and lease_id = :lease_id;

-- name: lock_key(kind, order_key)$
-- Never waits: a holder of this lock may hold rows that we need. The sweeper finds the keys that this misses.
select pg_try_advisory_xact_lock(hashtext(:kind), hashtext(:order_key));

-- name: wait_for_key(kind, order_key)!
-- The lock of enqueuers.
select pg_advisory_xact_lock(hashtext(:kind), hashtext(:order_key));

-- name: free_next(kind, order_key)$
-- The next job of a key without a head, unless a dead head halts the key. It is due from now on, so that no claim has
-- passed it.
update jobs set state = 'waiting', run_at = greatest(run_at, statement_timestamp())
where job_id = (
    select b.job_id from jobs b
    where b.kind = :kind and b.order_key = :order_key and b.state = 'blocked'
          and not exists (select from jobs h where h.kind = :kind and h.order_key = :order_key and h.state <> 'blocked')
          and not exists (select from dead_jobs d where d.kind = :kind and d.order_key = :order_key and d.halts
                          and d.replayed_as is null and d.discarded_at is null)
    order by b.job_id limit 1 for no key update skip locked)
returning job_id;
