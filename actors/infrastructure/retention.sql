-- name: purge_sessions(limit)$
with gone as (
    delete from sessions where session_id in (
        select session_id from sessions where expires_at < now() - interval '30 days'
        order by expires_at limit :limit for update skip locked)
    returning 1)
select count(*) from gone;

-- name: oldest_sessions()$
select extract(epoch from now() - interval '30 days' - min(expires_at))::float8 from sessions;

-- name: purge_refresh_tokens(limit)$
-- A token is good for 30 days: who comes with a spent one that is older is refused for its age.
with gone as (
    delete from refresh_tokens where refresh_hash in (
        select refresh_hash from refresh_tokens where spent_at is not null and spent_at < now() - interval '31 days'
        order by spent_at limit :limit for update skip locked)
    returning 1)
select count(*) from gone;

-- name: oldest_refresh_tokens()$
select extract(epoch from now() - interval '31 days' - min(spent_at))::float8 from refresh_tokens
where spent_at is not null;

-- name: purge_mail_tokens(limit)$
-- The archive of an export goes with its token, as soon as that has expired.
with old as (
    select token_id from mail_tokens where expires_at < now() - interval '7 days'
    order by expires_at limit :limit for update skip locked
), expired as (
    select token_id from mail_tokens where purpose = 'export' and expires_at <= now()
    order by expires_at limit :limit for update skip locked
), used as (
    select token_id from mail_tokens where purpose = 'export' and used_at < now() - interval '2 hours'
    order by used_at limit :limit for update skip locked
), gone as (
    delete from mail_tokens where token_id in (
        select token_id from old union select token_id from expired union select token_id from used)
    returning 1)
select count(*) from gone;

-- name: oldest_mail_tokens()$
select extract(epoch from now() - interval '7 days' - min(expires_at))::float8 from mail_tokens;

-- name: purge_idempotency_keys(limit)$
with gone as (
    delete from idempotency_keys where name in (
        select name from idempotency_keys where expires_at <= now()
        order by expires_at limit :limit for update skip locked)
    returning 1)
select count(*) from gone;

-- name: oldest_idempotency_keys()$
select extract(epoch from now() - min(expires_at))::float8 from idempotency_keys;

-- name: purge_mails(limit)$
with gone as (
    delete from mails where mail_id in (
        select mail_id from mails
        where status in ('sent', 'dead', 'expired') and updated_at < now() - interval '30 days'
        order by updated_at limit :limit for update skip locked)
    returning 1)
select count(*) from gone;

-- name: oldest_mails()$
select extract(epoch from now() - interval '30 days' - min(updated_at))::float8 from mails
where status in ('sent', 'dead', 'expired');

-- name: purge_finished_jobs(limit)$
with gone as (
    delete from finished_jobs where job_id in (
        select job_id from finished_jobs where keep_until <= now()
        order by keep_until limit :limit for update skip locked)
    returning 1)
select count(*) from gone;

-- name: oldest_finished_jobs()$
select extract(epoch from now() - min(keep_until))::float8 from finished_jobs;

-- name: purge_dead_jobs(limit)$
with gone as (
    delete from dead_jobs where job_id in (
        select job_id from dead_jobs where died_at < now() - interval '30 days'
        order by died_at limit :limit for update skip locked)
    returning 1)
select count(*) from gone;

-- name: oldest_dead_jobs()$
select extract(epoch from now() - interval '30 days' - min(died_at))::float8 from dead_jobs;

-- name: purge_dead_letters(limit)$
with gone as (
    delete from dead_letters where dead_letter_id in (
        select dead_letter_id from dead_letters where created_at < now() - interval '30 days'
        order by created_at limit :limit for update skip locked)
    returning 1)
select count(*) from gone;

-- name: oldest_dead_letters()$
select extract(epoch from now() - interval '30 days' - min(created_at))::float8 from dead_letters;
