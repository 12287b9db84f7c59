-- Queries of content. Each list has an index in its own order, so that a page costs the same in a table of any size.
-- Each index has its own query, since one query for all filters gets one plan for all.

-- name: transitions_of(content_id, after, limit)
select t.transition_id, t.action, t.from_status, t.to_status, t.note, t.created_at, t.actor_id,
       case when u.deleted_at is null then u.full_name else 'Deleted user' end as actor_name
from content_transitions t join users u on u.user_id = t.actor_id
where t.content_id = :content_id and t.transition_id > :after
order by t.transition_id
limit :limit;

-- name: list_published(before, before_id, limit)
select content_id, author_id, category_id, title, language, status, version, published_at, created_at, updated_at
from content
where status = 'published' and (published_at, content_id) < (:before, :before_id)
order by published_at desc, content_id desc
limit :limit;

-- name: list_published_in(category_id, before, before_id, limit)
select content_id, author_id, category_id, title, language, status, version, published_at, created_at, updated_at
from content
where status = 'published' and category_id = :category_id and (published_at, content_id) < (:before, :before_id)
order by published_at desc, content_id desc
limit :limit;

-- name: list_published_by(author_id, category_id, before, before_id, limit)
select content_id, author_id, category_id, title, language, status, version, published_at, created_at, updated_at
from content
where status = 'published' and author_id = :author_id and (published_at, content_id) < (:before, :before_id)
  and (:category_id::uuid is null or category_id = :category_id)
order by published_at desc, content_id desc
limit :limit;

-- name: list_unpublished(statuses, before, before_id, limit)
select c.*
from unnest(:statuses::text[]) as asked (status) cross join lateral (
    select content_id, author_id, category_id, title, language, status, version, published_at, created_at, updated_at
    from content
    where status = asked.status and (created_at, content_id) < (:before, :before_id)
    order by created_at desc, content_id desc
    limit :limit) c
order by c.created_at desc, c.content_id desc
limit :limit;

-- name: list_unpublished_in(category_id, statuses, before, before_id, limit)
select c.*
from unnest(:statuses::text[]) as asked (status) cross join lateral (
    select content_id, author_id, category_id, title, language, status, version, published_at, created_at, updated_at
    from content
    where category_id = :category_id and status = asked.status and (created_at, content_id) < (:before, :before_id)
    order by created_at desc, content_id desc
    limit :limit) c
order by c.created_at desc, c.content_id desc
limit :limit;

-- name: list_unpublished_by(author_id, category_id, statuses, before, before_id, limit)
select c.*
from unnest(:statuses::text[]) as asked (status) cross join lateral (
    select content_id, author_id, category_id, title, language, status, version, published_at, created_at, updated_at
    from content
    where author_id = :author_id and status = asked.status and (created_at, content_id) < (:before, :before_id)
      and (:category_id::uuid is null or category_id = :category_id)
    order by created_at desc, content_id desc
    limit :limit) c
order by c.created_at desc, c.content_id desc
limit :limit;
