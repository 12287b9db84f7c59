-- name: add_job(job_id, kind, user_id)$
insert into user_jobs (job_id, kind, user_id) values (:job_id, :kind, :user_id)
on conflict (job_id) do nothing returning true;

-- name: add_input(job_id, form, content)!
insert into user_job_inputs (job_id, form, content) values (:job_id, :form, :content);

-- name: set_queue_id(job_id, queue_id)!
update user_jobs set queue_id = :queue_id where job_id = :job_id;

-- name: job_of(job_id)^
-- A job that an operator has taken out of the queue is cancelled: every other end is written in its transaction.
select job_id, kind, user_id, done, total, counts::text as counts, faults::text as faults, error, created_at, updated_at,
       finished_at, version,
       case when state in ('waiting', 'running') and not exists (select from jobs q where q.job_id = u.queue_id)
            then 'cancelled' else state end as state
from user_jobs u where job_id = :job_id;

-- name: begin_job(job_id, queue_id)^
-- For the job of the queue that works on it: of two the later one. No row: it was cancelled. The owner may have lost the
-- right to it since.
update user_jobs u set state = 'running', queue_id = :queue_id, error = '', finished_at = null, version = version + 1
from accounts o
where u.job_id = :job_id and o.user_id = u.user_id
      and (u.state in ('waiting', 'running') and u.queue_id <= :queue_id or u.state = 'failed' and u.queue_id < :queue_id)
returning u.user_id, u.done, u.counts::text as counts, u.faults::text as faults, o.email, o.role,
          o.is_active and not o.is_deleted as is_active,
          (select i.form from user_job_inputs i where i.job_id = u.job_id) as form,
          (select i.content from user_job_inputs i where i.job_id = u.job_id) as content;

-- name: hold_running(job_id, queue_id)$
-- A cancellation waits for this step, or this step sees it.
select true from user_jobs where job_id = :job_id and queue_id = :queue_id and state = 'running' for no key update;

-- name: advance(job_id, done, total, counts, faults)!
update user_jobs
set done = :done, total = :total, counts = :counts::text::jsonb, faults = :faults::text::jsonb, version = version + 1
where job_id = :job_id;

-- name: end_job(job_id, state, error)^
update user_jobs set state = :state, error = :error, finished_at = now(), version = version + 1
where job_id = :job_id and state in ('waiting', 'running')
returning job_id, kind, user_id, state;

-- name: drop_input(job_id)!
delete from user_job_inputs where job_id = :job_id;

-- name: lock_job(job_id)!
-- The next statement sees the job of the queue that a simultaneous retry has made.
select from user_jobs where job_id = :job_id for no key update;

-- name: reopen(job_id)$
update user_jobs u set state = 'waiting', error = '', finished_at = null, version = version + 1
where job_id = :job_id
      and (state in ('failed', 'cancelled')
           or (state <> 'done' and not exists (select from jobs q where q.job_id = u.queue_id)))
returning true;

-- name: export_jobs(user_id, after, limit)
select x.job_id::text as cursor, row_to_json(x)::text as document from (
    select job_id, kind, state, done, total, counts, faults, error, created_at, updated_at, finished_at
    from user_jobs where user_id = :user_id and (:after::uuid is null or job_id > :after::uuid)
    order by job_id limit :limit) x;

-- name: erase_jobs(user_id, limit)$
-- Their inputs are deleted with them.
with gone as (
    delete from user_jobs where job_id in (select job_id from user_jobs where user_id = :user_id limit :limit)
    returning 1)
select count(*) from gone;
