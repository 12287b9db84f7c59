drop trigger content_search on content;
create or replace function search_vector(language text, title text, body text, category_id uuid) returns tsvector
language plpgsql stable as $$
declare
    config  regconfig := 'callboard_' || language;
    heading text := searchable(title);
    words   text := searchable(left(body, 100000));
    unsplit text := '[' || unsplit_scripts() || ']+';  -- to the parser a run of these is one word, with letters beside it
begin
    loop
        begin
            return setweight(to_tsvector(config, regexp_replace(heading, unsplit, ' ', 'g')), 'A')
                || setweight(to_tsvector(config, regexp_replace(words, unsplit, ' ', 'g')), 'B')
                || search_grams(heading || ' ' || words) || category_word(category_id);
        exception when program_limit_exceeded then
            words := left(words, length(words) / 2);
        end;
    end loop;
end $$;
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
create trigger content_search before insert or update of title, body, language, category_id, status, search_outdated
    on content for each row execute function fill_search();
drop function learn_words, filter_words, search_word, widen_query, without_tags;
drop table search_words, search_languages;
