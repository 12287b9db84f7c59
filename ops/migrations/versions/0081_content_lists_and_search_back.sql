drop index if exists content_created_idx, comments_content_idx, sessions_owner_idx, users_role_idx, users_active_idx, users_inactive_idx, users_unverified_idx, comments_author_idx,
    content_transitions_actor_idx, subscriptions_owner_idx, content_published_idx, content_author_published_idx,
    content_category_published_idx, content_status_idx, content_author_idx, content_category_idx, content_editor_idx,
    content_search_idx;
create index comments_content_idx on comments (content_id, created_at, comment_id) where deleted_at is null;
drop trigger content_search on content;
drop function fill_search, search_query, search_vector, category_word, searchable, unsearchable, search_grams, unsplit_scripts;
do $$
declare
    language text;
begin
    foreach language in array array['arabic', 'armenian', 'basque', 'catalan', 'danish', 'dutch', 'english', 'finnish', 'french', 'german', 'greek',
    'hindi', 'hungarian', 'indonesian', 'irish', 'italian', 'lithuanian', 'nepali', 'norwegian', 'portuguese',
    'romanian', 'russian', 'serbian', 'simple', 'spanish', 'swedish', 'tamil', 'turkish', 'yiddish'] loop
        execute format('drop text search configuration callboard_%s', language);
    end loop;
end $$;
drop extension unaccent;
alter table content drop column if exists search_outdated, drop column search, drop column last_edited_by, drop column language;
alter table content add column search tsvector generated always as (
    setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', body), 'B')) stored;
create index content_published_idx on content (published_at desc, content_id desc) where status = 'published';
create index content_created_idx on content (created_at desc, content_id desc);
create index content_author_idx on content (author_id, created_at desc, content_id desc);
create index content_category_idx on content (category_id) where category_id is not null;
create index content_search_idx on content using gin (search) where status = 'published';

alter table content disable trigger content_touch;
alter table content drop constraint content_status_check;
update content set status = 'pending' where status = 'pending_review';
alter table content add constraint content_status_check
    check (status in ('draft', 'pending', 'approved', 'published', 'archived'));
update content_transitions set from_status = 'pending' where from_status = 'pending_review';
update content_transitions set to_status = 'pending' where to_status = 'pending_review';
alter table content enable trigger content_touch;

alter table categories drop column description;
alter index subscriptions_end_idx rename to subscriptions_renewal_idx;
alter table subscriptions drop column starts_at;
alter table subscriptions alter column plan_type drop not null, alter column ends_at drop not null;
alter table subscriptions rename column ends_at to renews_at;
alter table subscriptions rename constraint subscriptions_plan_type_check to subscriptions_plan_check;
alter table subscriptions rename column plan_type to plan;
alter table subscriptions alter column plan set not null, alter column renews_at set not null;