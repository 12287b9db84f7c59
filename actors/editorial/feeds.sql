-- Feeds of published articles. An article's text changes only between two publications.

-- name: feed_category(category_id, slug)^
select category_id, slug, name from categories
where deleted_at is null and (category_id = :category_id or slug = :slug);

-- name: feed_entries(limit)
select content_id, version, title, author_name, category_slug, category_name, tags, published_at
from content_summaries
where status = 'published'
order by published_at desc, content_id desc
limit :limit;

-- name: feed_entries_in(category_id, limit)
select content_id, version, title, author_name, category_slug, category_name, tags, published_at
from content_summaries
where status = 'published' and category_id = :category_id
order by published_at desc, content_id desc
limit :limit;

-- name: feed_texts(content_ids, most, beginning)
-- The text of an article that has `most` bytes at most, or the beginning of a longer one; and its first publication.
select content.content_id, coalesce(first.created_at, content.published_at) as first_published_at,
       octet_length(content.body_html) <= :most as is_whole,
       case when octet_length(content.body_html) <= :most then content.body_html
            else left(content.body_html, :beginning) end as html
from unnest(:content_ids::uuid[]) as asked (id)
    join content on content.content_id = asked.id and content.status = 'published'
    left join lateral (
        select created_at from content_transitions
        where content_id = asked.id and to_status = 'published'
        order by transition_id limit 1) as first on true;
