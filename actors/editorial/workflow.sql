-- name: add_content(content_id, author_id, category_id, title, body, body_html, language, tags)^
insert into content (content_id, author_id, last_edited_by, category_id, title, body, body_html, language, tags)
values (:content_id, :author_id, :author_id, :category_id, :title, :body, :body_html, :language, :tags)
on conflict (content_id) do nothing
returning content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
          last_edited_by, published_at, publish_at, expire_at, created_at, updated_at;

-- name: content_by_id(content_id)^
-- Deleted content is not found.
select content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
       last_edited_by, published_at, publish_at, expire_at, created_at, updated_at
from content where content_id = :content_id and deleted_at is null;

-- name: content_of(content_id, author_id)^
-- For a repeated request: also if it is deleted.
select content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
       last_edited_by, published_at, publish_at, expire_at, created_at, updated_at
from content where content_id = :content_id and author_id = :author_id;

-- name: edit_content(title, body, body_html, category_id, language, tags, editor_id, status, content_id, version, from_status)^
-- Guarded by the version that the editor has read: of two edits of one version exactly one gets the row. The replaced
-- text becomes a revision, and a schedule of the replaced text ends.
with replaced as (
    select * from content
    where content_id = :content_id and version = :version and status = :from_status and deleted_at is null
    for no key update
), kept as (
    insert into content_revisions
        (content_id, revision, author_id, editor_id, category_id, title, body, language, tags, written_at)
    select content_id, revision, author_id, coalesce(last_edited_by, author_id), category_id, title, body, language, tags,
           coalesce(edited_at, created_at)
    from replaced
)
update content
set title = :title, body = :body, body_html = :body_html, category_id = :category_id, language = :language,
    tags = :tags, last_edited_by = :editor_id, status = :status, version = version + 1, revision = revision + 1,
    edited_at = now(), publish_at = null, expire_at = null
where content_id = (select content_id from replaced)
returning content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
          last_edited_by, published_at, publish_at, expire_at, created_at, updated_at;

-- name: move_content(to_status, content_id, from_status, version, expire_at)^
-- Guarded by the state that the rules have checked: of two simultaneous transitions exactly one gets the row. What was
-- scheduled for another state ends.
update content
set status = :to_status, version = version + 1, publish_at = null,
    published_at = case when :to_status = 'published' then now() else published_at end,
    expire_at = case when :to_status = 'published' then coalesce(:expire_at, expire_at) end
where content_id = :content_id and status = :from_status and version = :version and deleted_at is null
returning content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
          last_edited_by, published_at, publish_at, expire_at, created_at, updated_at;

-- name: schedule_content(publish_at, expire_at, content_id, from_status, version)^
-- Guarded like a transition.
update content set publish_at = :publish_at, expire_at = :expire_at, version = version + 1
where content_id = :content_id and status = :from_status and version = :version and deleted_at is null
returning content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
          last_edited_by, published_at, publish_at, expire_at, created_at, updated_at;

-- name: delete_content(content_id, version)^
-- A retention rule removes the row.
update content set deleted_at = now(), publish_at = null, expire_at = null, version = version + 1
where content_id = :content_id and version = :version and deleted_at is null
returning content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
          last_edited_by, published_at, publish_at, expire_at, created_at, updated_at;

-- name: undelete_content(content_id, days)^
update content set deleted_at = null, version = version + 1
where content_id = :content_id and deleted_at > now() - make_interval(days => :days)
returning content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
          last_edited_by, published_at, publish_at, expire_at, created_at, updated_at;

-- name: make_room(author_id, max_rows, max_bytes)$
-- Removes as many of an author's deleted articles as exceed the quota, the oldest deletion first; 1,000 at most.
with oldest as (
    select content_id, deleted_at, content_size(content) as size from content
    where author_id = :author_id and deleted_at is not null order by deleted_at, content_id limit 1000
), summed as (
    select content_id, row_number() over places as place, sum(size) over places - size as freed
    from oldest window places as (order by deleted_at, content_id)
), gone as (
    delete from content using quota_usage u, summed s
    where u.user_id = :author_id and content.content_id = s.content_id
          and (s.place <= u.content_rows - :max_rows or s.freed < u.content_bytes - :max_bytes)
    returning 1)
select count(*) from gone;

-- name: add_transition(content_id, actor_id, action, from_status, to_status, note)!
insert into content_transitions (content_id, actor_id, action, from_status, to_status, note)
values (:content_id, :actor_id, :action, :from_status, :to_status, :note);

-- name: export_content(user_id, after, limit)
-- Articles with their history.
select x.content_id::text as cursor, row_to_json(x)::text as document from (
    select c.content_id, c.category_id, c.title, c.body, c.tags, c.status, c.version, c.published_at, c.publish_at,
           c.expire_at, c.created_at, c.updated_at, c.deleted_at,
           (select coalesce(json_agg(h order by h.transition_id), '[]') from (
                select transition_id, actor_id, action, from_status, to_status, note, created_at
                from content_transitions t where t.content_id = c.content_id
                order by transition_id desc limit 1000) h) as history
    from content c
    where c.author_id = :user_id and (:after::uuid is null or c.content_id > :after::uuid)
    order by c.content_id limit :limit) x;

-- name: erase_content(user_id, limit)$
-- Published articles stay, by a deleted user; articles that nobody could read are deleted.
with gone as (
    delete from content where content_id in (
        select content_id from content where author_id = :user_id and status <> 'published' limit :limit)
    returning 1
)
select count(*) from gone;

-- name: export_transitions(user_id, after, limit)
select x.transition_id::text as cursor, row_to_json(x)::text as document from (
    select transition_id, content_id, action, from_status, to_status, note, created_at
    from content_transitions
    where actor_id = :user_id and (:after::text::bigint is null or transition_id > :after::text::bigint)
    order by transition_id limit :limit) x;

-- name: erase_notes(user_id, limit)$
-- Decisions are the article's history and stay. Notes were for the author, who got them by mail; they are erased.
with erased as (
    update content_transitions set note = null where transition_id in (
        select transition_id from content_transitions where actor_id = :user_id and note is not null limit :limit)
    returning 1
)
select count(*) from erased;

-- name: export_subscriptions(user_id, after, limit)
select x.subscription_id::text as cursor, (to_jsonb(x) - 'user_id')::text as document from (
    select * from subscriptions where user_id = :user_id and (:after::uuid is null or subscription_id > :after::uuid)
    order by subscription_id limit :limit) x;
