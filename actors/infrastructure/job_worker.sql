-- name: claim(worker, limited, kinds, versions, free, others, lease_s, max_running, fair, from_at_0, from_id_0, from_at_1, from_id_1, from_at_2, from_id_2)
-- Claims for each kind its free slots, class by class, each class from its floor on; of these slots `others` may be taken
-- by other than security jobs. A fair claim takes the oldest job of any class first. `limited` kinds are claimed in a
-- transaction that holds their lock and has counted.
with wanted as (
    select w.* from unnest(
        :kinds::text[], :versions::smallint[], :free::int[], :others::int[], :lease_s::float8[], :max_running::int[],
        :fair::bool[], :from_at_0::timestamptz[], :from_id_0::bigint[], :from_at_1::timestamptz[],
        :from_id_1::bigint[], :from_at_2::timestamptz[], :from_id_2::bigint[])
        as w (kind, version, free, others, lease_s, max_running, fair, from_at_0, from_id_0, from_at_1, from_id_1,
              from_at_2, from_id_2)
    left join job_kinds k on k.kind = w.kind
    where not coalesce(k.paused, false) and (:limited or coalesce(k.max_running, w.max_running) = 0)
)
update jobs
set state = 'running', attempts = attempts + 1, lease_id = nextval('job_leases'), worker = :worker,
    lease_until = statement_timestamp() + make_interval(secs => (select w.lease_s from wanted w where w.kind = jobs.kind))
where job_id = any(array(
    select picked.job_id from wanted w cross join lateral (
        select c.job_id from (
                select * from (
                    select j.job_id from jobs j
                    where w.fair and j.kind = w.kind and j.state = 'waiting' and j.lost = 0
                          and j.run_at <= statement_timestamp() and j.version <= w.version
                          and j.priority = (
                            select o.priority from (
                            (select 0 as priority, h.run_at, h.job_id from jobs h
                             where h.kind = w.kind and h.priority = 0 and h.state = 'waiting' and h.lost = 0
                             order by h.run_at, h.job_id limit 1)
                             union all
                            (select 1 as priority, h.run_at, h.job_id from jobs h
                             where h.kind = w.kind and h.priority = 1 and h.state = 'waiting' and h.lost = 0
                             order by h.run_at, h.job_id limit 1)
                             union all
                            (select 2 as priority, h.run_at, h.job_id from jobs h
                             where h.kind = w.kind and h.priority = 2 and h.state = 'waiting' and h.lost = 0
                             order by h.run_at, h.job_id limit 1)) as o
                            order by o.run_at, o.job_id limit 1)
                    order by j.run_at, j.job_id limit 1 for update skip locked) as oldest
                union all
                select * from (
                    select j.job_id from jobs j
                    where j.kind = w.kind and j.priority = 0 and j.state = 'waiting' and j.lost = 0
                          and j.run_at <= statement_timestamp() and (j.run_at, j.job_id) >= (w.from_at_0, w.from_id_0)
                          and j.version <= w.version
                    order by j.run_at, j.job_id limit w.free for update skip locked) as class_0
                union all
                select * from (
                    select * from (
                        select j.job_id from jobs j
                        where j.kind = w.kind and j.priority = 1 and j.state = 'waiting' and j.lost = 0
                              and j.run_at <= statement_timestamp()
                              and (j.run_at, j.job_id) >= (w.from_at_1, w.from_id_1) and j.version <= w.version
                        order by j.run_at, j.job_id limit w.others for update skip locked) as class_1
                    union all
                    select * from (
                        select j.job_id from jobs j
                        where j.kind = w.kind and j.priority = 2 and j.state = 'waiting' and j.lost = 0
                              and j.run_at <= statement_timestamp()
                              and (j.run_at, j.job_id) >= (w.from_at_2, w.from_id_2) and j.version <= w.version
                        order by j.run_at, j.job_id limit w.others for update skip locked) as class_2
                    limit w.others) as others
        ) as c limit w.free) as picked))
returning job_id, kind, priority, run_at, coalesce(deadline <= statement_timestamp(), false) as expired,
          extract(epoch from deadline - statement_timestamp())::float8 as left_s, deadline, attempts, max_attempts, lease_id, lost,
          order_key, payload, progress, traceparent, created_at,
          extract(epoch from statement_timestamp() - run_at)::float8 as waited_s;

-- name: claim_suspect(worker, limited, kinds, versions, lease_s, max_running)
-- The oldest job with a lost lease: it runs alone in its process. The limit of its kind holds for it too, except for
-- another such job that is claimed at the same moment.
update jobs
set state = 'running', attempts = attempts + 1, lease_id = nextval('job_leases'), worker = :worker,
    lease_until = statement_timestamp() + make_interval(secs => (
        select w.lease_s from unnest(:kinds::text[], :lease_s::float8[]) as w (kind, lease_s) where w.kind = jobs.kind))
where job_id = (
    select j.job_id from jobs j
    join unnest(:kinds::text[], :versions::smallint[], :max_running::int[]) as w (kind, version, max_running)
         on w.kind = j.kind
    left join job_kinds k on k.kind = j.kind
    where j.state = 'waiting' and j.lost > 0 and j.run_at <= statement_timestamp() and j.version <= w.version
          and not coalesce(k.paused, false)
          and (coalesce(k.max_running, w.max_running) = 0 or :limited)
    order by j.run_at, j.job_id limit 1 for update of j skip locked)
returning job_id, kind, priority, run_at, coalesce(deadline <= statement_timestamp(), false) as expired,
          extract(epoch from deadline - statement_timestamp())::float8 as left_s, deadline, attempts, max_attempts, lease_id, lost,
          order_key, payload, progress, traceparent, created_at,
          extract(epoch from statement_timestamp() - run_at)::float8 as waited_s;

-- name: lock_limit(kind)$
-- In its own statement: later statements see the claims of all earlier holders of this lock.
select pg_try_advisory_xact_lock(hashtext('job limit'), hashtext(:kind));

-- name: running_of(kind, max_running)^
-- The number of running jobs in all processes, with unswept leases, and the limit.
select count(j.job_id)::int as running, coalesce(max(k.max_running), :max_running::int) as allowed
from (select 1) as one
left join jobs j on j.kind = :kind and j.state = 'running'
left join job_kinds k on k.kind = :kind;

-- name: look(kinds)^
-- For how many seconds the job of these kinds that is newly due has been so, in how many seconds the next one is, the same
-- for the oldest lost lease, and the operators' limits.
select extract(epoch from statement_timestamp() - max(d.due))::float8 as due_for_s,
       extract(epoch from min(d.later) - statement_timestamp())::float8 as next_s,
       extract(epoch from (
           select run_at from jobs where state = 'waiting' and lost > 0 and kind = any(:kinds::text[])
           order by run_at, job_id limit 1) - statement_timestamp())::float8 as suspect_s,
       coalesce((select json_object_agg(kind, max_running) from job_kinds
                 where max_running is not null and kind = any(:kinds::text[])), '{}')::text as limits
from unnest(:kinds::text[]) as k (kind) cross join generate_series(0, 2) as p (priority) cross join lateral (
    select (select run_at from jobs j where j.kind = k.kind and j.priority = p.priority and j.state = 'waiting'
            and j.lost = 0 and j.run_at <= statement_timestamp() order by run_at desc, job_id desc limit 1) as due,
           (select run_at from jobs j where j.kind = k.kind and j.priority = p.priority and j.state = 'waiting'
            and j.lost = 0 and j.run_at > statement_timestamp() order by run_at, job_id limit 1) as later) as d;

-- name: renew(job_ids, lease_ids, lease_s)
-- A row that a transaction has locked, even our own `finish`, is skipped: that lock keeps every other process off it.
with held as (
    select d.job_id, d.lease_id, d.lease_s
    from unnest(:job_ids::bigint[], :lease_ids::bigint[], :lease_s::float8[]) as d (job_id, lease_id, lease_s)
), free as (
    select j.job_id, h.lease_s from held h join jobs j on j.job_id = h.job_id and j.lease_id = h.lease_id
    order by j.job_id for no key update of j skip locked
), renewed as (
    update jobs j set lease_until = statement_timestamp() + make_interval(secs => f.lease_s)
    from free f where j.job_id = f.job_id
    returning j.job_id
)
select j.job_id, j.cancel_requested_at is not null as cancelled, exists (select from renewed r where r.job_id = j.job_id) as renewed
from held h join jobs j on j.job_id = h.job_id and j.lease_id = h.lease_id;

-- name: confirm(job_id, lease_id)$
select true from jobs where job_id = :job_id and lease_id = :lease_id;

-- name: set_progress(job_id, lease_id, progress)$
update jobs set progress = :progress::text::jsonb where job_id = :job_id and lease_id = :lease_id returning true;
