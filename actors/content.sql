-- name: add_content(content_id, author_id, category_id, title, body, body_html)^
insert into content (content_id, author_id, category_id, title, body, body_html)
values (:content_id, :author_id, :category_id, :title, :body, :body_html)
on conflict (content_id) do nothing
returning *;

-- name: content_by_id(content_id)^
select * from content where content_id = :content_id;

-- name: edit_content(title, body, body_html, category_id, status, content_id, version, from_status)^
-- Guarded by the version that the editor has read: of two edits of one version exactly one gets the row.
update content
set title = :title, body = :body, body_html = :body_html, category_id = :category_id,
    status = :status, version = version + 1
where content_id = :content_id and version = :version and status = :from_status
returning *;

-- name: move_content(to_status, content_id, from_status, version)^
-- Guarded by the state it was judged in: of two transitions at once exactly one gets the row.
update content
set status = :to_status, version = version + 1,
    published_at = case when :to_status = 'published' then now() else published_at end
where content_id = :content_id and status = :from_status and version = :version
returning *;

-- name: delete_content(content_id, version)^
delete from content where content_id = :content_id and version = :version returning *;

-- name: add_transition(content_id, actor_id, action, from_status, to_status, note)!
insert into content_transitions (content_id, actor_id, action, from_status, to_status, note)
values (:content_id, :actor_id, :action, :from_status, :to_status, :note);

-- name: transitions_of(content_id, after, limit)
select t.transition_id, t.action, t.from_status, t.to_status, t.note, t.created_at, t.actor_id, u.full_name as actor_name
from content_transitions t join users u on u.user_id = t.actor_id
where t.content_id = :content_id and t.transition_id > :after
order by t.transition_id
limit :limit;

-- name: list_content(viewer_id, sees_all, status, author_id, category_id, before, before_id, limit)
-- Newest first; whoever asks sees what is published, what is their own, and as an editor all.
select content_id, author_id, category_id, title, status, version, published_at, created_at, updated_at
from content
where (status = 'published' or author_id = :viewer_id or :sees_all)
  and (:status::text is null or status = :status)
  and (:author_id::uuid is null or author_id = :author_id)
  and (:category_id::uuid is null or category_id = :category_id)
  and (:before::timestamptz is null or (created_at, content_id) < (:before, :before_id::uuid))
order by created_at desc, content_id desc
limit :limit;

-- name: search_content(q, category_id, rank, before_id, limit)
-- Best first. A snippet is made of the beginning of the text, and only for the rows of the page. The caller makes it safe,
-- and puts <mark> where U+E000 stands and </mark> where U+E001 does.
with found as (
    select content_id, author_id, category_id, title, body, published_at,
           ts_rank(search, websearch_to_tsquery('english', :q))::float8 as rank
    from content
    where status = 'published' and search @@ websearch_to_tsquery('english', :q)
      and (:category_id::uuid is null or category_id = :category_id)
), page as (
    select * from found
    where :rank::float8 is null or (rank, content_id) < (:rank, :before_id::uuid)
    order by rank desc, content_id desc
    limit :limit
)
select content_id, author_id, category_id, title, published_at, rank,
       ts_headline('english', translate(left(body, 10000), E'\ue000\ue001', ''), websearch_to_tsquery('english', :q),
                   E'StartSel=\ue000, StopSel=\ue001, MaxFragments=2, MaxWords=25, MinWords=8') as snippet
from page
order by rank desc, content_id desc;
