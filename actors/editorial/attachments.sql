-- name: find_file(upload_id, caller_id, is_editor)^
-- Its owner's; everybody's once its content is published, or while it is an avatar; an editor's like its content.
select object_id, size, media_type, filename, completed_at
from uploads u
where upload_id = :upload_id and completed_at is not null and kind <> 'partial'
  and (user_id = :caller_id
       or exists (select from content_attachments a join content c using (content_id)
                  where a.upload_id = u.upload_id and c.deleted_at is null
                    and (c.status = 'published' or c.author_id = :caller_id or :is_editor))
       or exists (select from avatars v where v.upload_id = u.upload_id));

-- name: find_avatar(user_id)^
select upload_id, object_id, size, media_type, filename, completed_at
from avatars join uploads using (upload_id) where avatars.user_id = :user_id;

-- name: content_of(content_id)^
select author_id, status from content where content_id = :content_id and deleted_at is null;

-- name: lock_content(content_id)^
select author_id, status from content where content_id = :content_id and deleted_at is null for update;

-- name: own_upload(upload_id, user_id)^
select size, media_type from uploads
where upload_id = :upload_id and user_id = :user_id and completed_at is not null and kind <> 'partial' for share;

-- name: attach(content_id, upload_id)!
insert into content_attachments (content_id, upload_id) values (:content_id, :upload_id) on conflict do nothing;

-- name: detach(content_id, upload_id)$
delete from content_attachments where content_id = :content_id and upload_id = :upload_id returning 1;

-- name: note_editor(content_id, user_id)!
-- Who has changed the attachments does not approve them.
update content set last_edited_by = :user_id where content_id = :content_id;

-- name: list_attachments(content_id)
select upload_id, filename, media_type, size, attached_at
from content_attachments join uploads using (upload_id)
where content_id = :content_id order by attached_at, upload_id;

-- name: set_avatar(user_id, upload_id)!
insert into avatars (user_id, upload_id) values (:user_id, :upload_id)
on conflict (user_id) do update set upload_id = excluded.upload_id, set_at = now();

-- name: remove_avatar(user_id)$
delete from avatars where user_id = :user_id returning 1;

-- name: export_attachments(user_id, after, limit)
select content_id::text || upload_id::text as cursor, row_to_json(x)::text as document from (
    select content_id, upload_id, attached_at
    from content_attachments join uploads using (upload_id)
    where user_id = :user_id and (:after::text is null or content_id::text || upload_id::text > :after::text)
    order by content_id::text || upload_id::text limit :limit) x;

-- name: export_avatars(user_id, after, limit)
select upload_id::text as cursor, row_to_json(x)::text as document from (
    select upload_id, set_at from avatars
    where user_id = :user_id and (:after::text is null or upload_id::text > :after::text) limit :limit) x;

-- name: erase_avatars(user_id, limit)$
with gone as (
    delete from avatars where user_id in (select user_id from avatars where user_id = :user_id limit :limit) returning 1
)
select count(*) from gone;
