-- A database that has come from the first release in one go has the column, and all its rows are outdated.
alter table content add column if not exists search_outdated boolean not null default false;
create index content_outdated_idx on content (published_at desc) where search_outdated;
analyze content (search_outdated);

create or replace function fill_search() returns trigger language plpgsql as $$
begin
    if new.status <> 'published' then
        new.search := null;
    elsif tg_op = 'INSERT' or old.search is null or old.search_outdated
            or (old.title, old.body, old.language) is distinct from (new.title, new.body, new.language) then
        new.search := search_vector(new.language, new.title, new.body, new.category_id);
    elsif old.category_id is distinct from new.category_id then
        new.search := ts_delete(old.search, tsvector_to_array(category_word(old.category_id)))
            || category_word(new.category_id);
    end if;
    new.search_outdated := false;
    return new;
end $$;
drop trigger content_touch on content;
drop trigger content_search on content;
create trigger content_touch before update of author_id, category_id, title, body, body_html, status, version,
    published_at, created_at, last_edited_by, language on content for each row execute function touch_updated_at();
create trigger content_search before insert or update of title, body, language, category_id, status, search_outdated
    on content for each row execute function fill_search();

insert into jobs (kind, priority, max_attempts, payload)
select 'search_refill', 2, 20, '{}' where exists (select from content where search_outdated);
