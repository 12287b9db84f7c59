-- name: list_tags(published, tag, limit)
select tag, published from tag_counts
where (- published, tag) > (- :published::integer, :tag::text)
order by (- published), tag
limit :limit;
