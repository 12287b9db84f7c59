delete from jobs where kind = 'search_refill';
update content set search_outdated = false where search_outdated;
drop trigger content_touch on content;
drop trigger content_search on content;
create trigger content_touch before update on content for each row execute function touch_updated_at();
create trigger content_search before insert or update of title, body, language, category_id, status on content
    for each row execute function fill_search();
create or replace function fill_search() returns trigger language plpgsql as $$
begin
    if new.status <> 'published' then
        new.search := null;
    elsif tg_op = 'INSERT' or old.search is null
            or (old.title, old.body, old.language) is distinct from (new.title, new.body, new.language) then
        new.search := search_vector(new.language, new.title, new.body, new.category_id);
    elsif old.category_id is distinct from new.category_id then
        new.search := ts_delete(old.search, tsvector_to_array(category_word(old.category_id)))
            || category_word(new.category_id);
    end if;
    return new;
end $$;
alter table content drop column search_outdated;
