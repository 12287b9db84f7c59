-- name: add_upload(upload_id, user_id, kind, size, reserved, metadata, filename, declared_type, parts, life_s)^
insert into uploads (upload_id, user_id, kind, size, reserved, metadata, filename, declared_type, parts, expires_at)
values (:upload_id, :user_id, :kind, :size, :reserved, :metadata, :filename, :declared_type, :parts,
        now() + make_interval(secs => :life_s))
on conflict (upload_id) do nothing
returning upload_id, object_id, kind, size, received, metadata, filename, declared_type, media_type, parts, created_at,
          expires_at, completed_at;

-- name: upload(upload_id, user_id)^
select upload_id, object_id, kind, size, received, metadata, filename, declared_type, media_type, parts, created_at,
       expires_at, completed_at
from uploads where upload_id = :upload_id and user_id = :user_id and (expires_at is null or expires_at > now());

-- name: list_uploads(user_id, before, before_id, limit)
select upload_id, object_id, kind, size, received, metadata, filename, declared_type, media_type, parts, created_at,
       expires_at, completed_at
from uploads
where user_id = :user_id and (created_at, upload_id) < (:before, :before_id)
  and (expires_at is null or expires_at > now())
order by created_at desc, upload_id desc limit :limit;

-- name: lock_upload(upload_id, user_id)^
-- The row of a client's upload, whether its lease is held, and whether its last holder has released it.
select upload_id, object_id, kind, size, received, metadata, filename, declared_type, media_type, parts, created_at,
       expires_at, completed_at, reserved, fence,
       coalesce(leased_until > now(), false) as is_leased, leased_until is null as is_released
from uploads
where upload_id = :upload_id and user_id = :user_id and (expires_at is null or expires_at > now())
for update;

-- name: is_shown(upload_id)$
-- Whether it is attached to content that is no draft any more.
select exists (
    select from content_attachments a join content c using (content_id)
    where a.upload_id = :upload_id and c.status <> 'draft' and c.deleted_at is null);

-- name: want_upload(upload_id)!
update uploads set is_wanted = true where upload_id = :upload_id;

-- name: take_lease(upload_id, size, reserved, lease_s)$
update uploads
set fence = fence + 1, leased_until = now() + make_interval(secs => :lease_s), is_wanted = false, size = :size,
    reserved = :reserved
where upload_id = :upload_id
returning fence;

-- name: save_progress(upload_id, fence, received, lease_s)^
-- Guarded by the fence: whoever has lost the lease gets no row.
update uploads set received = :received, leased_until = now() + make_interval(secs => :lease_s)
where upload_id = :upload_id and fence = :fence and leased_until is not null
returning is_wanted;

-- name: release_lease(upload_id, fence)!
update uploads set leased_until = null, is_wanted = false where upload_id = :upload_id and fence = :fence;

-- name: complete_upload(upload_id, fence, media_type)^
-- Parts of a final upload are no longer needed: an hour is for a client that has lost the response.
with completed as (
    update uploads
    set received = size, completed_at = now(), media_type = :media_type, leased_until = null, is_wanted = false,
        expires_at = case kind when 'partial' then expires_at end
    where upload_id = :upload_id and fence = :fence and leased_until is not null and completed_at is null
    returning upload_id, user_id, object_id, kind, size, received, metadata, filename, declared_type, media_type, parts,
              created_at, expires_at, completed_at
), spent as (
    update uploads u set expires_at = least(u.expires_at, now() + interval '1 hour')
    from completed c where u.upload_id = any(c.parts) and u.user_id = c.user_id
)
select upload_id, object_id, kind, size, received, metadata, filename, declared_type, media_type, parts, created_at,
       expires_at, completed_at
from completed;

-- name: replace_object(upload_id, fence, object_id, received)^
with kept as (
    delete from discarded_objects where object_id = :object_id
)
update uploads set object_id = :object_id, received = :received
where upload_id = :upload_id and fence = :fence and leased_until is not null
returning upload_id;

-- name: discard_object(object_id)!
insert into discarded_objects (object_id) values (:object_id);

-- name: note_removal(upload_id)$
-- Who removes an attached file has changed its drafts, and does not approve them. Whether it is attached to content that
-- is no draft any more.
with attached as (
    select c.content_id, c.status, c.deleted_at, u.user_id
    from content_attachments a join content c using (content_id) join uploads u using (upload_id)
    where a.upload_id = :upload_id order by c.content_id for update of c
), noted as (
    update content set last_edited_by = attached.user_id from attached where content.content_id = attached.content_id
)
select exists (select from attached where status <> 'draft' and deleted_at is null);

-- name: remove_upload(upload_id, fence)$
delete from uploads where upload_id = :upload_id and fence = :fence returning object_id;

-- name: forget_object(object_id)!
delete from discarded_objects where object_id = :object_id;

-- name: complete_parts(user_id, upload_ids)
-- The complete partial uploads of a user among these.
select upload_id, object_id, size from uploads
where user_id = :user_id and upload_id = any(:upload_ids) and kind = 'partial' and completed_at is not null
  and expires_at > now();

-- name: purge_expired(limit)$
with gone as (
    delete from uploads where ctid in (
        select ctid from uploads
        where expires_at < now() and (leased_until is null or leased_until < now())
        order by expires_at limit :limit for update skip locked)
    returning 1
)
select count(*) from gone;

-- name: discarded_objects(age_s, limit)
select object_id from discarded_objects where discarded_at < now() - make_interval(secs => :age_s)
order by discarded_at limit :limit;

-- name: oldest_discarded(age_s)$
select extract(epoch from now() - make_interval(secs => :age_s) - min(discarded_at))::float8 from discarded_objects;

-- name: usage(user_id)^
select upload_rows, upload_bytes from quota_usage where user_id = :user_id;

-- name: export_uploads(user_id, after, limit)
select x.upload_id::text as cursor, row_to_json(x)::text as document from (
    select upload_id, kind, size, received, metadata, filename, declared_type, media_type, created_at, completed_at,
           expires_at
    from uploads
    where user_id = :user_id and upload_id > coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000')
    order by upload_id limit :limit
) x;

-- name: erase_uploads(user_id, limit)$
-- Their bytes go with the objects that a trigger discards.
with gone as (
    delete from uploads where upload_id in (select upload_id from uploads where user_id = :user_id limit :limit)
    returning 1
)
select count(*) from gone;
