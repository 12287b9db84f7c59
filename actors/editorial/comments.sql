-- name: commented_content(content_id)^
select author_id, status, title from content where content_id = :content_id and deleted_at is null;

-- name: comment_by_id(comment_id)^
select c.comment_id, c.content_id, c.parent_id, c.depth, c.replies, c.author_id, c.body, c.body_html, c.version,
       c.created_at, c.edited_at, c.hidden_at, c.deleted_at, c.reported_at, a.title,
       extract(epoch from clock_timestamp() - c.created_at)::float8 as age_s,
       a.author_id as content_author_id, a.status as content_status
from comments c join content a using (content_id) where c.comment_id = :comment_id and a.deleted_at is null;

-- name: add_comment(comment_id, content_id, author_id, parent_id, depth, body, body_html)$
insert into comments (comment_id, content_id, author_id, parent_id, depth, body, body_html, created_at)
values (:comment_id, :content_id, :author_id, :parent_id, :depth, :body, :body_html, clock_timestamp())
on conflict (comment_id) do nothing
returning true;

-- name: edit_comment(comment_id, version, body, body_html)$
-- Guarded by the version that was read: of two edits of one version exactly one changes the row.
update comments set body = :body, body_html = :body_html, edited_at = now(), version = version + 1
where comment_id = :comment_id and version = :version and deleted_at is null
returning true;

-- name: delete_comment(comment_id, version)$
update comments set deleted_at = now(), reported_at = null, version = version + 1
where comment_id = :comment_id and version = :version and deleted_at is null
returning true;

-- name: close_reports(comment_id)!
update comment_reports set closed_at = now() where comment_id = :comment_id and closed_at is null;

-- name: add_moderation(comment_id, actor_id, action, reason)!
insert into comment_moderations (comment_id, actor_id, action, reason)
values (:comment_id, :actor_id, :action, :reason);

-- name: comment_rows(user_id)$
select comment_rows from quota_usage where user_id = :user_id;

-- name: purge_comments(days, limit)$
-- A deleted comment loses its text. Without replies it goes, with the hidden and deleted replies below it.
with due as (
    select comment_id, replies from comments
    where deleted_at < now() - make_interval(days => :days) and (replies = 0 or body is not null)
    order by deleted_at limit :limit for update skip locked
), emptied as (
    update comments set body = null, body_html = null
    where comment_id in (select comment_id from due where replies > 0)
    returning 1
), gone as (
    delete from comments where comment_id in (select comment_id from due where replies = 0)
    returning 1
)
select (select count(*) from emptied) + (select count(*) from gone);

-- name: export_comments(user_id, after, limit)
select x.comment_id::text as cursor, row_to_json(x)::text as document from (
    select comment_id, content_id, parent_id, body, version, created_at, edited_at, hidden_at, deleted_at
    from comments where author_id = :user_id and (:after::uuid is null or comment_id > :after::uuid)
    order by comment_id limit :limit) x;

-- name: erase_comments(user_id, limit)$
-- Like articles: public comments stay, by a deleted user. Those that nobody could read lose their text; they go, unless
-- others have answered them.
with due as (
    select comment_id, exists (select from comments r where r.parent_id = c.comment_id) as is_answered
    from comments c
    where author_id = :user_id and (deleted_at is not null or hidden_at is not null)
      and (body is not null or not exists (select from comments r where r.parent_id = c.comment_id))
    limit :limit for update
), emptied as (
    update comments set body = null, body_html = null, reported_at = null, deleted_at = coalesce(deleted_at, now())
    where comment_id in (select comment_id from due where is_answered)
    returning 1
), gone as (
    delete from comments where comment_id in (select comment_id from due where not is_answered)
    returning 1
)
select (select count(*) from emptied) + (select count(*) from gone);
