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
create or replace function unsplit_scripts() returns text language sql immutable parallel safe as $$
    select '\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf'
        || '\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff'
$$;
create or replace function searchable(words text) returns text language sql immutable parallel safe as $$
    select translate(normalize(words, nfkc), '_~/@.-:' || E'\x01\x02\x03\x04\x05\x06\x07', E'\x01\x02\x03\x04\x05\x06\x07')
$$;
create or replace function search_query(language text, q text) returns tsquery language sql stable as $$
    with asked as (  -- a hyphen before a word excludes it
        select searchable(regexp_replace(regexp_replace(normalize(q, nfkc), '([^\s"-])-', '\1 ', 'g'), '-', E'\x0e', 'g')) as q
    ), signed as (
        select replace(q, E'\x0e', '-') as q from asked
    ), run as (
        select found[1] as sign, found[2] as run
        from signed, regexp_matches(q, '(-?)"?([' || unsplit_scripts() || ']+)', 'g') as found
    ), gram as (
        select sign, string_agg(quote_literal(substr(run, place, 2)), ' & ') as grams
        from run, generate_series(1, greatest(length(run) - 1, 1)) as place
        group by sign, run
    )
    select websearch_to_tsquery(
            ('callboard_' || language)::regconfig, regexp_replace(q, '[' || unsplit_scripts() || ']+', ' ', 'g'))
        && coalesce(
            (select string_agg(case sign when '-' then '!' else '' end || '(' || grams || ')', ' & ') from gram), ''
           )::tsquery
    from signed
$$;
create function unsearchable(words text) returns text language sql immutable parallel safe as $$
    select translate(words, E'\x01\x02\x03\x04\x05\x06\x07', '_~/@.-:')
$$;
drop function all_of, highlightable, signs, learn_words, filter_words, search_word, widen_query, without_tags;
drop table search_words, search_languages;
