-- The sitemap. Every statement reads a range of content_published_idx.

-- name: sitemap_pages(limit)
-- The pages after the first, and the newest publication before each.
select first_at, first_id, (
    select published_at from content
    where status = 'published' and (published_at, content_id) < (first_at, first_id)
    order by published_at desc, content_id desc limit 1) as last_before
from sitemap_pages
order by first_at, first_id
limit :limit;

-- name: newest_publication()$
select published_at from content where status = 'published' order by published_at desc, content_id desc limit 1;

-- name: next_sitemap_page(start_at, start_id)^
select first_at, first_id from sitemap_pages
where (first_at, first_id) > (:start_at, :start_id)
order by first_at, first_id limit 1;

-- name: sitemap_urls(base, start_at, start_id, end_at, end_id, limit)$
select coalesce(string_agg(
    '<url><loc>' || :base || content_id || '</loc><lastmod>'
        || to_char(published_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || E'</lastmod></url>\n',
    '' order by published_at, content_id), '')
from (
    select published_at, content_id from content
    where status = 'published' and (published_at, content_id) >= (:start_at, :start_id)
      and (published_at, content_id) < (:end_at, :end_id)
    order by published_at, content_id
    limit :limit) as page;

-- name: place_after(start_at, start_id, count)^
-- The place of the article that has `count` articles before it, from a place on.
select published_at, content_id from content
where status = 'published' and (published_at, content_id) >= (:start_at, :start_id)
order by published_at, content_id
offset :count limit 1;

-- name: remove_sitemap_pages()!
delete from sitemap_pages;

-- name: add_sitemap_pages(starts, ids)!
insert into sitemap_pages (first_at, first_id) select * from unnest(:starts::timestamptz[], :ids::uuid[]);
