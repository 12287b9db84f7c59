-- name: refill_search(limit)$
-- Its trigger makes the search of each anew. One that somebody holds is passed over: an edit does the same.
with done as (
    update content set search_outdated = false where content_id in (
        select content_id from content where search_outdated
        order by published_at desc limit :limit for update skip locked)
    returning 1)
select count(*) from done;

-- name: search_is_outdated()$
select exists (select from content where search_outdated);
