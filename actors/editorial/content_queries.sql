-- Queries of content. Each list has an index in its own order, so that a page costs the same in a table of any size.
-- Each index has its own query, since one query for all filters gets one plan for all.

-- name: transitions_of(content_id, after, limit)
select t.transition_id, t.action, t.from_status, t.to_status, t.note, t.created_at, t.actor_id,
       (select name from public_names where user_id = t.actor_id) as actor_name
from content_transitions t
where t.content_id = :content_id and t.transition_id > :after
order by t.transition_id
limit :limit;

-- name: category_of_slug(slug)$
select category_id from categories where slug = :slug and deleted_at is null;

-- name: list_published(before, before_id, limit)
select c.*, coalesce((select visible from comment_counts n where n.content_id = c.content_id), 0) as comment_count
from content_summaries c
where status = 'published' and (published_at, content_id) < (:before, :before_id)
order by published_at desc, content_id desc
limit :limit;

-- name: list_published_in(category_id, before, before_id, limit)
select c.*, coalesce((select visible from comment_counts n where n.content_id = c.content_id), 0) as comment_count
from content_summaries c
where status = 'published' and category_id = :category_id and (published_at, content_id) < (:before, :before_id)
order by published_at desc, content_id desc
limit :limit;

-- name: list_published_by(author_id, category_id, tag, before, before_id, limit)
-- An author's articles are bounded by the quota: those of a category, or with a tag, are looked for among them.
select c.*, coalesce((select visible from comment_counts n where n.content_id = c.content_id), 0) as comment_count
from content_summaries c
where status = 'published' and author_id = :author_id and (published_at, content_id) < (:before, :before_id)
  and (:category_id::uuid is null or category_id = :category_id) and (:tag::text is null or :tag = any (tags))
order by published_at desc, content_id desc
limit :limit;

-- name: list_unpublished(statuses, before, before_id, limit)
select c.*, coalesce((select visible from comment_counts n where n.content_id = c.content_id), 0) as comment_count
from unnest(:statuses::text[]) as asked (status) cross join lateral (
    select * from content_summaries
    where status = asked.status and (created_at, content_id) < (:before, :before_id)
    order by created_at desc, content_id desc
    limit :limit) c
order by c.created_at desc, c.content_id desc
limit :limit;

-- name: list_unpublished_in(category_id, statuses, before, before_id, limit)
select c.*, coalesce((select visible from comment_counts n where n.content_id = c.content_id), 0) as comment_count
from unnest(:statuses::text[]) as asked (status) cross join lateral (
    select * from content_summaries
    where category_id = :category_id and status = asked.status and (created_at, content_id) < (:before, :before_id)
    order by created_at desc, content_id desc
    limit :limit) c
order by c.created_at desc, c.content_id desc
limit :limit;

-- name: list_unpublished_by(author_id, category_id, tag, statuses, before, before_id, limit)
select c.*, coalesce((select visible from comment_counts n where n.content_id = c.content_id), 0) as comment_count
from unnest(:statuses::text[]) as asked (status) cross join lateral (
    select * from content_summaries
    where author_id = :author_id and status = asked.status and (created_at, content_id) < (:before, :before_id)
      and (:category_id::uuid is null or category_id = :category_id) and (:tag::text is null or :tag = any (tags))
    order by created_at desc, content_id desc
    limit :limit) c
order by c.created_at desc, c.content_id desc
limit :limit;

-- name: list_tagged(tag, statuses, before, before_id, limit)
-- The page is taken from the tags alone; the limit of the last part keeps the planner from joining with all content.
select c.*, coalesce((select visible from comment_counts n where n.content_id = c.content_id), 0) as comment_count
from (
    select t.content_id, t.listed_at
    from unnest(:statuses::text[]) as asked (status) cross join lateral (
        select content_id, listed_at from content_tags
        where tag = :tag and status = asked.status and (listed_at, content_id) < (:before, :before_id)
        order by listed_at desc, content_id desc
        limit :limit) t
    order by t.listed_at desc, t.content_id desc
    limit :limit) page
cross join lateral (select * from content_summaries where content_id = page.content_id limit 1) c
order by page.listed_at desc, page.content_id desc;

-- name: list_tagged_in(tag, category_id, statuses, before, before_id, limit)
select c.*, coalesce((select visible from comment_counts n where n.content_id = c.content_id), 0) as comment_count
from (
    select t.content_id, t.listed_at
    from unnest(:statuses::text[]) as asked (status) cross join lateral (
        select content_id, listed_at from content_tags
        where tag = :tag and category_id = :category_id and status = asked.status
          and (listed_at, content_id) < (:before, :before_id)
        order by listed_at desc, content_id desc
        limit :limit) t
    order by t.listed_at desc, t.content_id desc
    limit :limit) page
cross join lateral (select * from content_summaries where content_id = page.content_id limit 1) c
order by page.listed_at desc, page.content_id desc;
