-- name: refill_search(limit)$
-- A trigger rebuilds the search of each row. Locked rows are skipped: an edit does the same work.
with done as (
    update content set search_outdated = false where content_id in (
        select content_id from content where search_outdated and status = 'published'
        order by published_at desc limit :limit for update skip locked)
    returning 1)
select count(*) from done;

-- name: search_is_outdated()$
select exists (select from content where search_outdated and status = 'published');
