-- name: to_sweep()^
-- Whether there is anything to do, and the holders of running jobs.
select exists (select from jobs where state = 'running' and lease_until < statement_timestamp()) as lapsed,
       exists (select from jobs where state = 'blocked') as blocked,
       array(select distinct worker from jobs where state = 'running' and worker is not null) as holders;

-- name: lost_leases(kinds, versions, gone, limit)
-- Only rows that need action, of kinds that this process declares: their time is over, or their holder is dead.
select j.job_id, j.lease_id, j.kind, j.attempts, j.max_attempts, j.unique_key, j.cancel_requested_at is not null as cancelled
from jobs j join unnest(:kinds::text[], :versions::smallint[]) as w (kind, version) on w.kind = j.kind
where j.state = 'running' and (j.lease_until < statement_timestamp() or j.worker = any(:gone::text[]))
      and j.version <= w.version
order by j.lease_until limit :limit for update of j skip locked;

-- name: lose(job_ids, lease_ids, delays_s)
-- The attempt still counts.
update jobs j
set state = 'waiting', lease_id = null, lease_until = null, worker = null, lost = lost + 1,
    last_error = 'the lease was lost: its process died or could not reach the database',
    run_at = least(statement_timestamp() + make_interval(secs => d.delay_s),
                   greatest(coalesce(deadline, 'infinity'), statement_timestamp()))
from unnest(:job_ids::bigint[], :lease_ids::bigint[], :delays_s::float8[]) as d (job_id, lease_id, delay_s)
where j.job_id = d.job_id and j.lease_id = d.lease_id
returning j.job_id;

-- name: stuck_keys(kinds, limit)
-- Order keys with waiting jobs and no head, unless a dead head halts them.
select b.kind, b.order_key from jobs b
where b.state = 'blocked' and b.kind = any(:kinds::text[])
      and not exists (select from jobs h where h.kind = b.kind and h.order_key = b.order_key and h.state <> 'blocked')
      and not exists (select from dead_jobs d where d.kind = b.kind and d.order_key = b.order_key and d.halts
                      and d.replayed_as is null and d.discarded_at is null)
group by b.kind, b.order_key limit :limit;

-- name: wait_briefly()!
set local lock_timeout = '100ms';
