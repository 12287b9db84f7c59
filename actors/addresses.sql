-- name: add_token(token_id, user_id, purpose, token_hash, ttl_s, email)!
insert into mail_tokens (token_id, user_id, purpose, token_hash, expires_at, email)
values (:token_id, :user_id, :purpose, :token_hash, now() + make_interval(secs => :ttl_s), :email);

-- name: use_token(token_hash)^
-- Of any number at once exactly one gets the row. It proves the account's own address, or the new one that `email` is.
update mail_tokens set used_at = now()
where token_hash = :token_hash and purpose in ('verify_email', 'change_email')
  and used_at is null and expires_at > now()
returning user_id, email;

-- name: spend_tokens(user_id)!
-- What was mailed to an address that is no more the account's is good for nothing.
update mail_tokens set used_at = now() where user_id = :user_id and used_at is null;
