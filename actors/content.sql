-- name: add_content(content_id, author_id, category_id, title, body, body_html, language)^
insert into content (content_id, author_id, last_edited_by, category_id, title, body, body_html, language)
values (:content_id, :author_id, :author_id, :category_id, :title, :body, :body_html, :language)
on conflict (content_id) do nothing
returning content_id, author_id, category_id, title, body, body_html, language, status, version, last_edited_by,
          published_at, created_at, updated_at;

-- name: content_by_id(content_id)^
select content_id, author_id, category_id, title, body, body_html, language, status, version, last_edited_by,
       published_at, created_at, updated_at
from content where content_id = :content_id;

-- name: edit_content(title, body, body_html, category_id, language, editor_id, status, content_id, version, from_status)^
-- Guarded by the version that the editor has read: of two edits of one version exactly one gets the row.
update content
set title = :title, body = :body, body_html = :body_html, category_id = :category_id, language = :language,
    last_edited_by = :editor_id, status = :status, version = version + 1
where content_id = :content_id and version = :version and status = :from_status
returning content_id, author_id, category_id, title, body, body_html, language, status, version, last_edited_by,
          published_at, created_at, updated_at;

-- name: move_content(to_status, content_id, from_status, version)^
-- Guarded by the state it was judged in: of two transitions at once exactly one gets the row.
update content
set status = :to_status, version = version + 1,
    published_at = case when :to_status = 'published' then now() else published_at end
where content_id = :content_id and status = :from_status and version = :version
returning content_id, author_id, category_id, title, body, body_html, language, status, version, last_edited_by,
          published_at, created_at, updated_at;

-- name: delete_content(content_id, version)^
delete from content where content_id = :content_id and version = :version
returning content_id, author_id, category_id, title, body, body_html, language, status, version, last_edited_by,
          published_at, created_at, updated_at;

-- name: add_transition(content_id, actor_id, action, from_status, to_status, note)!
insert into content_transitions (content_id, actor_id, action, from_status, to_status, note)
values (:content_id, :actor_id, :action, :from_status, :to_status, :note);
