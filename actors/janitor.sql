-- name: end_sessions()!
delete from sessions where expires_at < now() - interval '30 days';

-- name: forget_tokens()!
delete from mail_tokens where expires_at < now() - interval '7 days';

-- name: forget_keys()!
delete from idempotency_keys where expires_at <= now();

-- name: forget_mails()!
delete from mails where status in ('sent', 'dead', 'expired') and updated_at < now() - interval '30 days';
