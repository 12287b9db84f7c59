-- name: detach_content(category_id, limit)
-- Locked rows are left to a later batch: they are being edited.
update content set category_id = null, version = version + 1
where content_id in (
    select content_id from content where category_id = :category_id
    limit :limit for no key update skip locked)
returning content_id, author_id, title, version;

-- name: has_content(category_id)$
select exists (select from content where category_id = :category_id);

-- name: remove_category(category_id)!
delete from categories where category_id = :category_id and deleted_at is not null;
