-- name: set_hidden(comment_id, version, is_hidden)$
-- Guarded by the version that was read: of two decisions about one version exactly one changes the row.
update comments
set hidden_at = case when :is_hidden then now() end, reported_at = null, version = version + 1
where comment_id = :comment_id and version = :version and deleted_at is null
returning true;

-- name: lock_visible(comment_id)$
-- A report and a decision wait for each other.
select true from comments where comment_id = :comment_id and deleted_at is null and hidden_at is null for update;

-- name: add_report(comment_id, reporter_id, reason, note)$
-- A report that a decision has closed is opened again only after an edit.
insert into comment_reports as r (comment_id, reporter_id, reason, note)
values (:comment_id, :reporter_id, :reason, :note)
on conflict (comment_id, reporter_id) do update
set reason = excluded.reason, note = excluded.note, created_at = excluded.created_at, closed_at = null
where r.closed_at < (select edited_at from comments c where c.comment_id = excluded.comment_id)
returning true;

-- name: mark_reported(comment_id)!
update comments set reported_at = now() where comment_id = :comment_id and reported_at is null;

-- name: report_by(comment_id, reporter_id)^
select report_id, comment_id, reporter_id, reason, note, created_at, closed_at
from comment_reports where comment_id = :comment_id and reporter_id = :reporter_id;

-- name: reported(after, after_id, limit)
select c.comment_id, c.content_id, c.parent_id, c.depth, c.replies, c.author_id, c.body, c.body_html, c.version,
       c.created_at, c.edited_at, c.hidden_at, c.deleted_at, c.reported_at,
       n.name as author_name,
       (select count(*) from (
            select from comment_reports r where r.comment_id = c.comment_id and r.closed_at is null limit 100) x) as reports
from comments c join public_names n on n.user_id = c.author_id join content a using (content_id)
where c.reported_at is not null and a.deleted_at is null and (c.reported_at, c.comment_id) > (:after, :after_id)
order by c.reported_at, c.comment_id
limit :limit;

-- name: reports_of(comment_id, after, limit)
select report_id, comment_id, reporter_id, reason, note, created_at, closed_at
from comment_reports where comment_id = :comment_id and report_id > :after
order by report_id limit :limit;

-- name: moderations_of(comment_id, after, limit)
select m.moderation_id, m.action, m.reason, m.actor_id, m.created_at,
       n.name as actor_name
from comment_moderations m join public_names n on n.user_id = m.actor_id
where m.comment_id = :comment_id and m.moderation_id > :after
order by m.moderation_id limit :limit;

-- name: export_reports(user_id, after, limit)
select x.report_id::text as cursor, row_to_json(x)::text as document from (
    select report_id, comment_id, reason, note, created_at, closed_at from comment_reports
    where reporter_id = :user_id and (:after::text::bigint is null or report_id > :after::text::bigint)
    order by report_id limit :limit) x;

-- name: erase_reports(user_id, limit)$
with gone as (
    delete from comment_reports where report_id in (
        select report_id from comment_reports where reporter_id = :user_id limit :limit)
    returning 1
)
select count(*) from gone;

-- name: export_moderations(user_id, after, limit)
select x.moderation_id::text as cursor, row_to_json(x)::text as document from (
    select moderation_id, comment_id, action, reason, created_at from comment_moderations
    where actor_id = :user_id and (:after::text::bigint is null or moderation_id > :after::text::bigint)
    order by moderation_id limit :limit) x;

-- name: erase_reasons(user_id, limit)$
-- Decisions are the comment's history and stay, without their words.
with erased as (
    update comment_moderations set reason = null where moderation_id in (
        select moderation_id from comment_moderations where actor_id = :user_id and reason is not null limit :limit)
    returning 1
)
select count(*) from erased;
