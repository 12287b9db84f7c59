-- Queries of threads. A comment without its text is listed as long as it has replies; a hidden one also for its author
-- and for editors. What is listed for everybody, what is hidden, and one's own of that have an index each: a page costs
-- the same in a thread of any size, wherever it is, and whatever is deleted or hidden before it.

-- name: oldest_comments(content_id, viewer_id, sees_hidden, after, after_id, limit)
select c.comment_id, c.content_id, c.parent_id, c.depth, c.replies, c.author_id, c.body, c.body_html, c.version,
       c.created_at, c.edited_at, c.hidden_at, c.deleted_at, c.reported_at,
       n.name as author_name
from (
    (select * from comments
     where content_id = :content_id and parent_id is null and (replies > 0 or (deleted_at is null and hidden_at is null))
       and (created_at, comment_id) > (:after, :after_id)
     order by created_at, comment_id limit :limit)
    union all
    (select * from comments
     where content_id = :content_id and parent_id is null and hidden_at is not null and deleted_at is null and replies = 0
       and :sees_hidden
       and (created_at, comment_id) > (:after, :after_id)
     order by created_at, comment_id limit :limit)
    union all
    (select * from comments
     where content_id = :content_id and parent_id is null and hidden_at is not null and deleted_at is null and replies = 0
       and not :sees_hidden and author_id = :viewer_id::uuid
       and (created_at, comment_id) > (:after, :after_id)
     order by created_at, comment_id limit :limit)
) c join public_names n on n.user_id = c.author_id
order by c.created_at, c.comment_id
limit :limit;

-- name: newest_comments(content_id, viewer_id, sees_hidden, after, after_id, limit)
select c.comment_id, c.content_id, c.parent_id, c.depth, c.replies, c.author_id, c.body, c.body_html, c.version,
       c.created_at, c.edited_at, c.hidden_at, c.deleted_at, c.reported_at,
       n.name as author_name
from (
    (select * from comments
     where content_id = :content_id and parent_id is null and (replies > 0 or (deleted_at is null and hidden_at is null))
       and (created_at, comment_id) < (:after, :after_id)
     order by created_at desc, comment_id desc limit :limit)
    union all
    (select * from comments
     where content_id = :content_id and parent_id is null and hidden_at is not null and deleted_at is null and replies = 0
       and :sees_hidden
       and (created_at, comment_id) < (:after, :after_id)
     order by created_at desc, comment_id desc limit :limit)
    union all
    (select * from comments
     where content_id = :content_id and parent_id is null and hidden_at is not null and deleted_at is null and replies = 0
       and not :sees_hidden and author_id = :viewer_id::uuid
       and (created_at, comment_id) < (:after, :after_id)
     order by created_at desc, comment_id desc limit :limit)
) c join public_names n on n.user_id = c.author_id
order by c.created_at desc, c.comment_id desc
limit :limit;

-- name: replies_of(content_id, parent_id, viewer_id, sees_hidden, after, after_id, limit)
select c.comment_id, c.content_id, c.parent_id, c.depth, c.replies, c.author_id, c.body, c.body_html, c.version,
       c.created_at, c.edited_at, c.hidden_at, c.deleted_at, c.reported_at,
       n.name as author_name
from (
    (select * from comments
     where content_id = :content_id and parent_id = :parent_id and (replies > 0 or (deleted_at is null and hidden_at is null))
       and (created_at, comment_id) > (:after, :after_id)
     order by created_at, comment_id limit :limit)
    union all
    (select * from comments
     where content_id = :content_id and parent_id = :parent_id and hidden_at is not null and deleted_at is null and replies = 0
       and :sees_hidden
       and (created_at, comment_id) > (:after, :after_id)
     order by created_at, comment_id limit :limit)
    union all
    (select * from comments
     where content_id = :content_id and parent_id = :parent_id and hidden_at is not null and deleted_at is null and replies = 0
       and not :sees_hidden and author_id = :viewer_id::uuid
       and (created_at, comment_id) > (:after, :after_id)
     order by created_at, comment_id limit :limit)
) c join public_names n on n.user_id = c.author_id
order by c.created_at, c.comment_id
limit :limit;
