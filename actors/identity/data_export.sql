-- name: lock_owner(user_id)^
-- Serialises two simultaneous requests: the next statement of the second sees the export of the first.
select user_id from users where user_id = :user_id and deleted_at is null for update;

-- name: export_of(user_id)^
-- One whose job the user has cancelled has failed.
select e.export_id, e.created_at,
       case when e.status in ('queued', 'running')
                 and not exists (select from open_user_jobs where job_id = e.export_id)
            then 'failed' else e.status end as status
from exports e where e.user_id = :user_id;

-- name: drop_export(user_id)!
-- The archive is deleted, and its link with it.
with gone as (delete from exports where user_id = :user_id returning export_id)
update mail_tokens set used_at = coalesce(used_at, now()) where token_id in (select export_id from gone);

-- name: add_export(export_id, user_id, token_hash, ttl_s)^
with token as (
    insert into mail_tokens (token_id, user_id, purpose, token_hash, expires_at)
    values (:export_id, :user_id, 'export', :token_hash, now() + make_interval(secs => :ttl_s))
)
insert into exports (export_id, user_id) values (:export_id, :user_id)
returning export_id, status, created_at;

-- name: spend_archive(token_hash, user_id)^
-- Of any number of simultaneous requests exactly one gets it, and only the owner's.
update mail_tokens t set used_at = now()
from exports e join users u using (user_id)
where t.token_hash = :token_hash and t.purpose = 'export' and t.user_id = :user_id
  and t.used_at is null and t.expires_at > now()
  and e.export_id = t.token_id and e.status = 'ready' and u.deleted_at is null
returning e.export_id, e.size, e.pieces;

-- name: start_export(export_id, maker)$
-- From now on only pieces of this maker are accepted. Pieces of an earlier one are overwritten. A failed one is tried
-- again.
update exports set status = 'running', maker = :maker where export_id = :export_id and status <> 'ready'
returning true;

-- name: add_piece(export_id, maker, number, piece)$
-- No row comes back if another attempt makes the archive, or the request is gone.
with wanted as (
    select export_id from exports
    where export_id = :export_id and maker = :maker and status = 'running' for key share
)
insert into export_pieces (export_id, number, piece) select export_id, :number, :piece from wanted
on conflict (export_id, number) do update set piece = excluded.piece
returning true;

-- name: read_piece(export_id, number)$
select piece from export_pieces where export_id = :export_id and number = :number;

-- name: mark_export(export_id, status, size, pieces)$
-- No row comes back if there is a newer request, or the user is gone. Pieces beyond the last belong to an interrupted
-- attempt.
with marked as (
    update exports set status = :status, size = :size, pieces = :pieces
    where export_id = :export_id and status in ('queued', 'running')
    returning export_id, user_id
), left_over as (
    delete from export_pieces
    where export_id in (select export_id from marked) and number >= coalesce(:pieces::integer, 0)
)
select user_id from marked;

-- name: prolong_export(export_id, ttl_s)!
update mail_tokens set expires_at = now() + make_interval(secs => :ttl_s) where token_id = :export_id;

-- name: export_links(user_id, after, limit)
-- The links that were mailed to the user: never their secrets.
select x.token_id::text as cursor, row_to_json(x)::text as document from (
    select t.token_id, t.purpose, t.email, t.created_at, t.expires_at, t.used_at, e.status as export_status
    from mail_tokens t left join exports e on e.export_id = t.token_id
    where t.user_id = :user_id and (:after::uuid is null or t.token_id > :after::uuid)
    order by t.token_id limit :limit) x;

-- name: erase_links(user_id, limit)$
-- Archives are deleted with their links.
with gone as (
    delete from mail_tokens where token_id in (select token_id from mail_tokens where user_id = :user_id limit :limit)
    returning 1
)
select count(*) from gone;
