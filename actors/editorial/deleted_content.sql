-- name: list_deleted(days, before, before_id, limit)
select c.content_id, c.author_id, c.title, c.language, c.status, c.created_at, c.deleted_at,
       c.deleted_at + make_interval(days => :days) as kept_until,
       (select t.actor_id from content_transitions t
        where t.content_id = c.content_id and t.action = 'delete' order by t.transition_id desc limit 1) as deleted_by
from content c
where c.deleted_at > now() - make_interval(days => :days)
      and (:before::timestamptz is null or (c.deleted_at, c.content_id) < (:before::timestamptz, :before_id::uuid))
order by c.deleted_at desc, c.content_id desc
limit :limit;
