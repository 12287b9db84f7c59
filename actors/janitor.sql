-- name: end_sessions()!
delete from sessions where expires_at < now() - interval '30 days';

-- name: forget_refresh_tokens()!
-- A token is good for 30 days: who comes with a spent one that is older is refused for its age.
delete from refresh_tokens where spent_at < now() - interval '31 days';

-- name: forget_tokens()!
delete from mail_tokens where expires_at < now() - interval '7 days';

-- name: forget_exports()!
-- Their archives go with them.
delete from mail_tokens where purpose = 'export' and expires_at <= now();

-- name: forget_petitions()!
-- What nobody has answered for an hour nobody will (actors/petitions.py): an address without an account is not kept.
delete from petitions where created_at <= now() - interval '1 hour';

-- name: forget_keys()!
delete from idempotency_keys where expires_at <= now();

-- name: forget_mails()!
delete from mails where status in ('sent', 'dead', 'expired') and updated_at < now() - interval '30 days';
