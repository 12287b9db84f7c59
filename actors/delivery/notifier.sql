-- name: transition(content_id, action, occurred_at)^
-- The transition and its article: both were written in one transaction, with one time.
select author_id, title, transition_id
from content_steps
where content_id = :content_id and action = :action and created_at = :occurred_at
limit 1;
