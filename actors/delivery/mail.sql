-- name: address_of(user_id, token_id)$
-- The recipient of a mail: the user's address, or the new address that its token is to prove.
select coalesce(t.email, u.email)
from accounts u left join mail_links t on t.token_id = :token_id and t.user_id = u.user_id
where u.user_id = :user_id and not u.is_deleted;

-- name: add_mail(mail_id, recipient, letter, data, user_id, occurred_at, deadline_s)$
-- The deadline counts from the event's time, or from now if that lies in the future. No row comes back if the mail
-- exists. Only its job makes it due: no sender of an earlier release finds it.
insert into mails (mail_id, recipient, letter, data, user_id, due_at, expires_at)
values (:mail_id, :recipient, :letter, :data, :user_id, 'infinity',
        least(:occurred_at::timestamptz, now()) + make_interval(secs => :deadline_s))
on conflict (mail_id) do nothing
returning expires_at;

-- name: adopt_mails(max_attempts, limit)$
-- Mails that a process of an earlier release has queued and not touched for a minute: each becomes a job.
with left_behind as (
    update mails set due_at = 'infinity', status = 'queued'
    where mail_id in (
        select mail_id from mails
        where status in ('queued', 'sending') and due_at < now() - interval '1 minute'
        order by due_at limit :limit for update skip locked)
    returning mail_id, attempts, expires_at, created_at
), adopted as (
    insert into jobs (kind, priority, attempts, max_attempts, deadline, payload, created_at)
    select 'mail', 1, least(attempts, :max_attempts - 1), :max_attempts, expires_at,
           jsonb_build_object('mail_id', mail_id), created_at
    from left_behind
    returning 1
)
select count(*) from adopted;

-- name: mail_of(mail_id)^
select mail_id, recipient, letter, data, status, copies, relay,
       coalesce(extract(epoch from clock_timestamp() - copied_at), 0)::float8 as silent_s,
       extract(epoch from now() - created_at)::float8 as age_s,
       extract(epoch from expires_at - now())::float8 as left_s
from mails where mail_id = :mail_id;

-- name: revive(mail_id)^
-- Like `mail_of`, for a mail whose job is replayed.
update mails
set status = 'queued', copies = 0, copied_at = null, relay = null, expires_at = now() + (expires_at - created_at)
where mail_id = :mail_id
returning mail_id, recipient, letter, data, status, copies, relay, 0::float8 as silent_s,
          extract(epoch from now() - created_at)::float8 as age_s,
          extract(epoch from expires_at - now())::float8 as left_s;

-- name: count_copy(mail_id, relay, job_id, lease_id)$
-- Called just before the final dot; only the holder of the job may count.
update mails set copies = copies + 1, relay = :relay, copied_at = clock_timestamp()
where mail_id = :mail_id and exists (select from held_jobs where job_id = :job_id and lease_id = :lease_id)
returning true;

-- name: token_owner(token_id, purpose)^
-- The owner of a mail token; the request for the mail cannot name another.
select coalesce(t.email, u.email) as email, t.token_hash
from mail_links t join accounts u using (user_id)
where t.token_id = :token_id and t.purpose = :purpose and not u.is_deleted;

-- name: reader(user_id, recipient)^
-- The languages of a user; and the name, which is sent only to an address that its owner has proved.
select case when lower(email) = lower(:recipient) and is_verified then full_name end as full_name,
       coalesce(languages, '{}') as languages
from accounts
where user_id = :user_id and not is_deleted;

-- name: article(content_id, transition_id, author_id)^
-- An author's article, and the note of one step in its history.
select title, note
from content_steps
where content_id = :content_id and transition_id = :transition_id and author_id = :author_id;

-- name: mark_sent(mail_id, attempts)!
update mails set status = 'sent', sent_at = now(), data = '{}', error = null, attempts = :attempts
where mail_id = :mail_id;

-- name: note_failure(mail_id, error, attempts, copies, job_id, lease_id)!
-- `copies` is the number of copies of which the server may have accepted one; null leaves it.
update mails set error = :error, attempts = :attempts, copies = coalesce(:copies, copies)
where mail_id = :mail_id and exists (select from held_jobs where job_id = :job_id and lease_id = :lease_id);

-- name: mark_ended(mail_id, status, error)!
update mails set status = :status, error = coalesce(:error, error) where mail_id = :mail_id and status <> 'sent';

-- name: export_mails(user_id, after, limit)
select x.mail_id::text as cursor, row_to_json(x)::text as document from (
    select mail_id, recipient, letter, data, status, created_at, sent_at
    from mails join mails_of(:user_id) using (mail_id)
    where :after::uuid is null or mail_id > :after::uuid
    order by mail_id limit :limit) x;

-- name: erase_mails(user_id, limit)$
with gone as (
    delete from mails where mail_id in (select mail_id from mails_of(:user_id) limit :limit) returning 1
)
select count(*) from gone;

-- name: purge_mails(limit)$
with gone as (
    delete from mails where mail_id in (
        select mail_id from mails
        where status in ('sent', 'dead', 'expired') and updated_at < now() - interval '30 days'
        order by updated_at limit :limit for update skip locked)
    returning 1)
select count(*) from gone;

-- name: oldest_mail()$
select extract(epoch from now() - interval '30 days' - min(updated_at))::float8 from mails
where status in ('sent', 'dead', 'expired');
