-- name: lock_owner(user_id)^
-- Of two who ask at once the second looks, in its next statement, when the first has made one.
select user_id from users where user_id = :user_id and deleted_at is null for update;

-- name: export_of(user_id)^
select export_id, status, created_at from exports where user_id = :user_id;

-- name: recent_exports(user_id)$
-- Of the last hour, those too whose archives are gone.
select count(*) from mail_tokens
where user_id = :user_id and purpose = 'export' and created_at > now() - interval '1 hour';

-- name: drop_export(user_id)!
-- The archive goes and its link with it; the token's row stays, for it is counted.
with gone as (delete from exports where user_id = :user_id returning export_id)
update mail_tokens set used_at = coalesce(used_at, now()) where token_id in (select export_id from gone);

-- name: add_export(export_id, user_id, token_hash, ttl_s)^
with token as (
    insert into mail_tokens (token_id, user_id, purpose, token_hash, expires_at)
    values (:export_id, :user_id, 'export', :token_hash, now() + make_interval(secs => :ttl_s))
)
insert into exports (export_id, user_id) values (:export_id, :user_id)
returning export_id, status, created_at;

-- name: archive_of(token_hash)^
select e.archive
from mail_tokens t join exports e on e.export_id = t.token_id join users u on u.user_id = t.user_id
where t.token_hash = :token_hash and t.purpose = 'export' and t.used_at is null and t.expires_at > now()
  and e.status = 'ready' and u.deleted_at is null;

-- name: start_export(export_id)$
update exports set status = 'running' where export_id = :export_id and status in ('queued', 'running')
returning true;

-- name: mark_export(export_id, status, archive)^
-- Nothing comes back for one that was asked for anew, or whose user is gone.
update exports set status = :status, archive = :archive
where export_id = :export_id and status in ('queued', 'running')
returning export_id;

-- name: prolong_export(export_id, ttl_s)!
update mail_tokens set expires_at = now() + make_interval(secs => :ttl_s) where token_id = :export_id;

-- name: export_account(user_id)$
select row_to_json(x)::text from (
    select user_id, email, full_name, role, is_verified, is_active, terms_at, password_changed_at, created_at, updated_at
    from users where user_id = :user_id) x;

-- name: export_profile(user_id)$
select row_to_json(x)::text from (
    select avatar_url, bio, preferences, created_at, updated_at from user_profiles where user_id = :user_id) x;

-- name: export_sessions(user_id)$
select coalesce(json_agg(x), '[]')::text from (
    select session_id, device, ip, created_at, used_at, expires_at, ended_at
    from sessions where user_id = :user_id order by created_at desc limit 1000) x;

-- name: export_content(user_id, after, limit)
-- Articles with their history, a page at a time.
select x.content_id, row_to_json(x)::text as document from (
    select c.content_id, c.category_id, c.title, c.body, c.status, c.version, c.published_at, c.created_at, c.updated_at,
           (select coalesce(json_agg(h order by h.transition_id), '[]') from (
                select transition_id, actor_id, action, from_status, to_status, note, created_at
                from content_transitions t where t.content_id = c.content_id
                order by transition_id desc limit 1000) h) as history
    from content c
    where c.author_id = :user_id and (:after::uuid is null or c.content_id > :after)
    order by c.content_id
    limit :limit) x;
