-- Queries of threads. A comment without its text is listed as long as it has replies; a hidden one also for its author
-- and for editors. Each order has an index, so that a page costs the same in a thread of any size.

-- name: oldest_comments(content_id, viewer_id, sees_hidden, after, after_id, limit)
select c.comment_id, c.content_id, c.parent_id, c.depth, c.replies, c.author_id, c.body, c.body_html, c.version,
       c.created_at, c.edited_at, c.hidden_at, c.deleted_at, c.reported_at,
       n.name as author_name
from comments c join public_names n on n.user_id = c.author_id
where c.content_id = :content_id and c.parent_id is null and (c.replies > 0 or c.deleted_at is null)
  and (c.hidden_at is null or c.replies > 0 or :sees_hidden or c.author_id = :viewer_id::uuid)
  and (c.created_at, c.comment_id) > (:after, :after_id)
order by c.created_at, c.comment_id
limit :limit;

-- name: newest_comments(content_id, viewer_id, sees_hidden, after, after_id, limit)
select c.comment_id, c.content_id, c.parent_id, c.depth, c.replies, c.author_id, c.body, c.body_html, c.version,
       c.created_at, c.edited_at, c.hidden_at, c.deleted_at, c.reported_at,
       n.name as author_name
from comments c join public_names n on n.user_id = c.author_id
where c.content_id = :content_id and c.parent_id is null and (c.replies > 0 or c.deleted_at is null)
  and (c.hidden_at is null or c.replies > 0 or :sees_hidden or c.author_id = :viewer_id::uuid)
  and (c.created_at, c.comment_id) < (:after, :after_id)
order by c.created_at desc, c.comment_id desc
limit :limit;

-- name: replies_of(parent_id, viewer_id, sees_hidden, after, after_id, limit)
select c.comment_id, c.content_id, c.parent_id, c.depth, c.replies, c.author_id, c.body, c.body_html, c.version,
       c.created_at, c.edited_at, c.hidden_at, c.deleted_at, c.reported_at,
       n.name as author_name
from comments c join public_names n on n.user_id = c.author_id
where c.parent_id = :parent_id and (c.replies > 0 or c.deleted_at is null)
  and (c.hidden_at is null or c.replies > 0 or :sees_hidden or c.author_id = :viewer_id::uuid)
  and (c.created_at, c.comment_id) > (:after, :after_id)
order by c.created_at, c.comment_id
limit :limit;
