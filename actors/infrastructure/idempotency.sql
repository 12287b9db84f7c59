-- name: claim_key(name, fingerprint, new_id, claim_id, lease_s, kept_s)^
-- One statement: of any number of simultaneous claims exactly one gets the row. An expired row counts as free.
insert into idempotency_keys as k (name, fingerprint, new_id, claim_id, lapses_at, expires_at)
values (:name, :fingerprint, :new_id, :claim_id,
        now() + make_interval(secs => :lease_s), now() + make_interval(secs => :kept_s))
on conflict (name) do update
set fingerprint = excluded.fingerprint, new_id = excluded.new_id, claim_id = excluded.claim_id,
    lapses_at = excluded.lapses_at, expires_at = excluded.expires_at, status = null, headers = null, body = null
where k.expires_at <= now()
returning new_id;

-- name: key_by_name(name)^
select fingerprint, status, headers, body, lapses_at <= now() as has_lapsed
from idempotency_keys where name = :name;

-- name: retake_key(claim_id, lease_s, name)^
-- The id of the resource stays: the earlier attempt may have created it.
update idempotency_keys
set claim_id = :claim_id, lapses_at = now() + make_interval(secs => :lease_s)
where name = :name and status is null and lapses_at <= now()
returning new_id;

-- name: keep_answer(status, headers, body, name, claim_id)!
update idempotency_keys
set status = :status, headers = :headers, body = :body
where name = :name and claim_id = :claim_id and status is null;

-- name: free_key(name, claim_id)!
update idempotency_keys set lapses_at = now()
where name = :name and claim_id = :claim_id and status is null;
