-- name: transition(content_id, action, occurred_at)^
-- The transition and its article: both were written in one transaction, with one time.
select c.author_id, c.title, t.transition_id
from content_transitions t join content c using (content_id)
where c.deleted_at is null and t.content_id = :content_id and t.action = :action and t.created_at = :occurred_at
limit 1;
