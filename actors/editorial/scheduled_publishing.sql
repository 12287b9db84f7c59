-- name: check_times(times, max_days)
-- The faults of times, by their places.
select place::int, case when time <= now() then 'Must be in the future.'
                        else 'Must be within ' || :max_days::int || ' days.' end as fault
from unnest(:times::timestamptz[]) with ordinality as given (time, place)
where time <= now() or time > now() + make_interval(days => :max_days);

-- name: lock_content(content_id)^
-- Schedules are changed by others before this, or after the job.
select content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
       last_edited_by, published_at, publish_at, expire_at, created_at, updated_at
from content where content_id = :content_id and deleted_at is null for no key update;

-- name: publish_due(content_id)^
update content set status = 'published', published_at = now(), publish_at = null, version = version + 1
where content_id = :content_id and publish_at <= now() and status = 'approved' and deleted_at is null
returning content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
          last_edited_by, published_at, publish_at, expire_at, created_at, updated_at;

-- name: archive_due(content_id)^
update content set status = 'archived', expire_at = null, version = version + 1
where content_id = :content_id and expire_at <= now() and status = 'published'
returning content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
          last_edited_by, published_at, publish_at, expire_at, created_at, updated_at;
