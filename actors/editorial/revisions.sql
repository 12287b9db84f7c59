-- name: revisions_of(content_id, before, limit)
select r.revision, r.is_current, r.title, r.language, r.size, r.written_at, r.editor_id,
       n.name as editor_name
from (
    select revision, true as is_current, title, language, octet_length(title) + octet_length(body) as size,
           coalesce(edited_at, created_at) as written_at, coalesce(last_edited_by, author_id) as editor_id
    from content where content_id = :content_id
    union all
    select revision, false, title, language, octet_length(title) + octet_length(body), written_at, editor_id
    from content_revisions where content_id = :content_id and (:before::bigint is null or revision < :before::bigint)
) r join public_names n on n.user_id = r.editor_id
where :before::bigint is null or r.revision < :before::bigint
order by r.revision desc
limit :limit;

-- name: revision(content_id, revision)^
select r.*, n.name as editor_name
from (
    select revision, title, body, category_id, language, tags, coalesce(edited_at, created_at) as written_at,
           coalesce(last_edited_by, author_id) as editor_id
    from content where content_id = :content_id and revision = :revision
    union all
    select revision, title, body, category_id, language, tags, written_at, editor_id
    from content_revisions where content_id = :content_id and revision = :revision
) r join public_names n on n.user_id = r.editor_id;

-- name: has_category(category_id)$
select exists (select from categories where category_id = :category_id and deleted_at is null);

-- name: drop_old_numbers(content_id, last)!
delete from content_revisions where content_id = :content_id and revision <= :last;

-- name: drop_oldest(author_id, max_bytes)$
-- Removes as many of an author's revisions as exceed the bytes, those replaced first;
-- 1,000 at most.
with oldest as (
    select content_id, revision, replaced_at, octet_length(title) + octet_length(body) as size from content_revisions
    where author_id = :author_id order by replaced_at, content_id, revision limit 1000
), summed as (
    select content_id, revision, sum(size) over (order by replaced_at, content_id, revision) - size as freed from oldest
), gone as (
    delete from content_revisions r using quota_usage u, summed s
    where u.user_id = :author_id and r.content_id = s.content_id and r.revision = s.revision
          and s.freed < u.revision_bytes - :max_bytes
    returning 1)
select count(*) from gone;

-- name: export_revisions(user_id, after, limit)
-- The texts that the user wrote, in their own articles and in those of others.
select x.content_id || '/' || x.revision as cursor, row_to_json(x)::text as document from (
    select content_id, revision, title, body, category_id, language, tags, written_at
    from content_revisions
    where editor_id = :user_id and (:after::text is null or (content_id, revision)
        > (split_part(:after, '/', 1)::uuid, split_part(:after, '/', 2)::int))
    order by content_id, revision limit :limit) x;

-- name: erase_revisions(user_id, limit)$
-- Nobody has read them but the author and editors: they are erased, like articles that are not published.
with gone as (
    delete from content_revisions where (content_id, revision) in (
        (select content_id, revision from content_revisions where editor_id = :user_id limit :limit)
        union
        (select content_id, revision from content_revisions where author_id = :user_id limit :limit)
        limit :limit)
    returning 1)
select count(*) from gone;
