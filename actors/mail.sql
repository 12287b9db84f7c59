-- name: address_of(user_id, token_id)$
-- Where a mail goes: to the user, or to the new address that its token is to prove.
select coalesce(t.email, u.email)
from users u left join mail_tokens t on t.token_id = :token_id and t.user_id = u.user_id
where u.user_id = :user_id and u.deleted_at is null;

-- name: add_mail(mail_id, recipient, letter, data, occurred_at, deadline_s)!
-- The deadline counts from the event, and from now if that claims to be of the future.
insert into mails (mail_id, recipient, letter, data, expires_at)
values (:mail_id, :recipient, :letter, :data, least(:occurred_at::timestamptz, now()) + make_interval(secs => :deadline_s))
on conflict (mail_id) do nothing;

-- name: due_mails(limit)
select mail_id from mails where status in ('queued', 'sending') and due_at <= now() order by due_at limit :limit;

-- name: claim_mail(lease_s, mail_id)^
-- Of any number of workers exactly one gets the row, and the attempt counts; the claim lapses unless it is renewed.
update mails
set status = case when expires_at <= now() then 'expired' else 'sending' end, attempts = attempts + 1,
    due_at = now() + make_interval(secs => :lease_s)
where mail_id = :mail_id and status in ('queued', 'sending') and due_at <= now()
returning mail_id, recipient, letter, data, status, attempts,
          extract(epoch from now() - created_at)::float8 as age_s,
          extract(epoch from expires_at - now())::float8 as left_s;

-- name: renew_mail(lease_s, mail_id)!
update mails set due_at = now() + make_interval(secs => :lease_s) where mail_id = :mail_id and status = 'sending';

-- name: token_owner(token_id, purpose)^
-- Whom a mail token belongs to, whatever the request for the mail says.
select coalesce(t.email, u.email) as email, t.token_hash
from mail_tokens t join users u using (user_id)
where t.token_id = :token_id and t.purpose = :purpose and u.deleted_at is null;

-- name: proved_name(user_id, recipient)$
-- A name is sent only to the address that its owner has proved.
select full_name from users
where user_id = :user_id and lower(email) = lower(:recipient) and is_verified and deleted_at is null;

-- name: article(content_id, transition_id, author_id)^
-- An author's article, and the note of one step in its history.
select c.title, t.note
from content c join content_transitions t using (content_id)
where c.content_id = :content_id and t.transition_id = :transition_id and c.author_id = :author_id;

-- name: mark_sent(mail_id)!
update mails set status = 'sent', sent_at = now(), data = '{}', error = null where mail_id = :mail_id;

-- name: mark_due(delay_s, attempts, error, mail_id)!
update mails
set status = 'queued', due_at = now() + make_interval(secs => :delay_s), attempts = :attempts, error = :error
where mail_id = :mail_id and status = 'sending';

-- name: mark_dead(error, mail_id)!
update mails set status = 'dead', error = :error where mail_id = :mail_id;
