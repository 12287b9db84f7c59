-- Published content for its cache. Both queries take the ids of all reads that came together.

-- name: published_content(content_ids)
select content_id, author_id, category_id, title, body, body_html, language, tags, status, version, revision,
       last_edited_by, published_at, publish_at, expire_at, created_at, updated_at
from content where content_id = any(:content_ids) and status = 'published';

-- name: published_versions(content_ids)
select content_id, version from content where content_id = any(:content_ids) and status = 'published';
